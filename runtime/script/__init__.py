"""Script mode: an unmodified torchrun script on Ray, with the same environment contract."""
