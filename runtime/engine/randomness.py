"""Random numbers keyed by what they are for, never by who draws them (I4)."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the purpose named by ``path``; equal on every machine."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Randomness:
    """Reseeds torch's default generator for each (step, micro-batch, layer).

    Dropout and the like draw from the default generator; keyed this way they draw the same
    numbers on every layout, when a micro-batch is computed again, and in a recomputed forward.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._device = device
        self._step = -1
        self._base = 0

    def weights(self, layer: int) -> None:
        """Before the initial weights of ``layer`` are made, on the CPU."""
        torch.default_generator.manual_seed(derive(self._seed, "weights", layer))

    def forward(self, step: int, micro_batch: int, layer: int) -> None:
        """Before each forward of ``layer`` on ``micro_batch``."""
        if step != self._step:
            self._step, self._base = step, derive(self._seed, "forward", step)
        # One hash a step; within it a multiplicative mix keeps (micro-batch, layer) apart.
        mixed = (self._base + micro_batch * 0x9E3779B97F4A7C15 + layer * 0xC2B2AE3D27D4EB4F) % 2**63
        if self._device.type == "cuda":
            torch.cuda.default_generators[self._device.index or 0].manual_seed(mixed)
        else:
            torch.default_generator.manual_seed(mixed)
