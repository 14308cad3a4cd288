"""The bench measured against what is known: queues with a formula, differences that were put in."""
