"""Training under a byte budget: every saved tensor is kept, swapped or recomputed; torch alone."""
