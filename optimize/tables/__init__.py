"""Embedding tables: most of a ranker's bytes, in fewer bits and with fewer rows."""
