"""All variants of a ranker beside each other: size, latency, quality, and which are beaten."""
