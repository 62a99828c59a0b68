"""Hashes of tensors."""

from __future__ import annotations

import pytest
import torch

from ithaca.runtime.engine import hashing


def test_dtype_shape_and_bits_count() -> None:
    tensors = [
        torch.zeros(4),
        torch.zeros(4, dtype=torch.int32),
        torch.zeros(2, 2),
        torch.zeros(2, 2, dtype=torch.bfloat16),
        torch.zeros(1, 4),
        torch.zeros(5),
        torch.zeros(0),
        torch.zeros(()),
        -torch.zeros(4),
        torch.full((4,), torch.finfo(torch.float32).smallest_normal),
    ]
    assert len({hashing.hash_tensor(tensor) for tensor in tensors}) == len(tensors)


def test_memory_layout_and_gradients_do_not_count() -> None:
    plain = torch.arange(12.0).reshape(3, 4)
    transposed = plain.t().contiguous().t()
    padded = torch.zeros(3, 9)[:, 2:6].copy_(plain)
    expected = hashing.hash_tensor(plain)
    assert hashing.hash_tensor(transposed) == expected
    assert hashing.hash_tensor(padded) == expected
    assert hashing.hash_tensor(torch.nn.Parameter(plain)) == expected


def test_pending_conjugation_counts() -> None:
    wave = torch.tensor([1 + 2j, 3 - 1j])
    assert hashing.hash_tensor(wave.conj()) == hashing.hash_tensor(wave.conj().resolve_conj())
    assert hashing.hash_tensor(wave.conj()) != hashing.hash_tensor(wave)


def test_a_missing_extension_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    hashing._load.cache_clear()
    monkeypatch.setattr(hashing, "import_module", missing)
    with pytest.raises(hashing.ExtensionMissingError, match="make setup"):
        hashing.hash_tensor(torch.zeros(1))
    monkeypatch.undo()
    assert hashing.hash_tensor(torch.zeros(1)) > 0
