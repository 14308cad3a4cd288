"""Dense layers in 8 bits: which layers, in which form for this CPU, from which requests."""
