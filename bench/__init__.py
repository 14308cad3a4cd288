"""Latency and throughput, measured soundly."""
