"""Hashes of parameters and other state, to tell whether two runs have reached the same bits.

The hash of bytes is in C++ (``csrc/hash.cpp``, which says how it is made); it is fast and not meant
to withstand an adversary. Checkpoints use sha256 besides.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from ithaca.runtime.engine.state_hash import BITS


class ExtensionMissingError(RuntimeError):
    """The C++ extension is not built, or was built for another torch."""


@cache
def _load() -> None:
    """Registers ``torch.ops.ithaca``; at the first use, so that importing this module is free."""
    try:
        import_module("ithaca._C")
    except ImportError as error:
        raise ExtensionMissingError(
            f"the C++ extension ithaca._C cannot be loaded ({error}). It is built by `make setup`, "
            "and must be built again when torch changes."
        ) from error


def hash_bytes(data: Tensor, seed: int = 0) -> int:
    """The 128-bit hash of the memory of ``data``, a contiguous tensor on the CPU.

    Neither dtype nor shape counts, only the bytes and ``seed`` (0 to 2**63 - 1).

    Raises:
        RuntimeError: ``data`` is not contiguous, or not on the CPU.
        ExtensionMissingError: the extension is not built.
    """
    _load()
    low, high = torch.ops.ithaca.hash128(data.detach(), seed).tolist()
    return int(low % 2**64 + (high % 2**64 << 64))


def hash_tensor(tensor: Tensor) -> int:
    """A 128-bit number that follows from dtype, shape and the bits of the elements, nothing else.

    Equal numbers that differ in bits, such as ``0.0`` and ``-0.0``, have different hashes. A tensor
    on another device, or not contiguous, is copied first.

    Raises:
        ExtensionMissingError: the extension is not built.
    """
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    header = f"{plain.dtype} {list(plain.shape)} ".encode()
    inner = hash_bytes(plain).to_bytes(BITS // 8, "little")
    return int.from_bytes(hashlib.blake2b(header + inner, digest_size=BITS // 8).digest(), "little")
