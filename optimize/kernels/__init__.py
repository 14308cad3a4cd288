"""Kernels of our own, each with a twin in plain torch that says what it computes."""
