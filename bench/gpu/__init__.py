"""What `bench.gpu_suite` is made of: cells, their isolation, ceilings, timing, and the report."""
