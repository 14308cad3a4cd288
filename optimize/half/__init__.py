"""16 bits for what bears them: ranges, the choice of operators, the casts, and the CPU's twin."""
