"""8 bits in a program of torch: an operator of ours that rounds, and what it is translated into."""
