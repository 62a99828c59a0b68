"""The compiled part. Importing it registers ``torch.ops.ithaca.*``; it has no names of its own.

``torch.ops.ithaca.hash128(data: Tensor, seed: int = 0) -> Tensor``: the 128-bit hash of the bytes
of a contiguous tensor on the CPU, as int64[2], the low half first.
"""
