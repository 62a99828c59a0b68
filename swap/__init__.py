"""Trains what does not fit: a byte budget over torch's allocator, without a change to the model."""
