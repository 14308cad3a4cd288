"""``python -m optimize check RANKER``: what stands in a ranker's way, before it is converted."""
