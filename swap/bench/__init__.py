"""Training under a memory budget, ours and others', measured side by side; torch alone."""
