"""Checkpoints: one safetensors file per layer, a manifest with hashes written last."""
