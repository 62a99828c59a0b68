"""The C++ hash against a plain reference, and what the reference's construction promises."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ithaca.runtime.engine import hashing
from ithaca.runtime.engine.state_hash import BITS
from tests.unit.csrc import hash_reference as reference

CPP_TEST = Path(__file__).parents[3] / "csrc" / "tests" / "hash_test.cpp"


def tensor_of(data: bytes) -> Tensor:
    """The bytes as a uint8 tensor."""
    return torch.tensor(list(data), dtype=torch.uint8)


def pattern(size: int) -> bytes:
    """The bytes that the C++ test hashes."""
    return bytes((i * 131 + i // 7 + 3) % 256 for i in range(size))


def disagreements(sizes: range) -> list[int]:
    """The sizes at which the extension and the reference differ."""
    return [
        size
        for size in sizes
        if hashing.hash_bytes(tensor_of(pattern(size)), size)
        != reference.hash128(pattern(size), size)
    ]


def test_every_small_size_agrees_with_the_reference() -> None:
    assert disagreements(range(301)) == []


@given(st.binary(max_size=2000), st.integers(0, 2**63 - 1))
def test_random_bytes_agree_with_the_reference(data: bytes, seed: int) -> None:
    assert hashing.hash_bytes(tensor_of(data), seed) == reference.hash128(data, seed)


@pytest.mark.parametrize(
    ("name", "value"),
    [("FIRST", 3), ("SECOND", reference.FIRST), ("START", reference.START[::-1]), ("CELL", 32)],
)
def test_a_changed_reference_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(reference, name, value)
    assert len(disagreements(range(1, 100))) > 90


def test_the_known_values_of_the_cpp_test_are_the_references() -> None:
    rows = re.findall(r"\{(\d+), (\d+), \{0x(\w{16}), 0x(\w{16})\}\}", CPP_TEST.read_text())
    assert len(rows) >= 7
    for size, seed, low, high in rows:
        expected = reference.hash128(pattern(int(size)), int(seed))
        assert f"{expected:032x}" == high + low


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_stirring_can_be_undone(x: int, y: int) -> None:
    assert reference.unstir(reference.stir((x, y))) == (x, y)


def test_every_byte_counts() -> None:
    data = tensor_of(pattern(257))
    seen = {hashing.hash_bytes(data)}
    for position in range(len(data)):
        for flip in (1, 128, 255):
            changed = data.clone()
            changed[position] ^= flip
            seen.add(hashing.hash_bytes(changed))
    assert len(seen) == 1 + 3 * 257


def test_order_of_cells_and_blocks_counts() -> None:
    data = tensor_of(pattern(512))
    rolled = {hashing.hash_bytes(data.roll(shift)) for shift in range(512)}
    assert len(rolled) == 512


def test_size_counts_where_the_padding_does_not() -> None:
    assert len({hashing.hash_bytes(torch.zeros(n, dtype=torch.uint8)) for n in range(300)}) == 300


def flipped_bits(hash_of: Callable[[Tensor], int], data: Tensor) -> list[list[int]]:
    """For every bit of ``data``: which bits of its hash change with it (0 or 1, 128 each)."""
    before = hash_of(data)
    rows = []
    for bit in range(8 * len(data)):
        changed = data.clone()
        changed[bit // 8] ^= 1 << bit % 8
        difference = hash_of(changed) ^ before
        rows.append([difference >> k & 1 for k in range(BITS)])
    return rows


def is_avalanche(rows: list[list[int]]) -> bool:
    """A bit of input flips about half of all bits, and a bit of output is flipped by about half.

    Eight standard deviations of a fair coin are allowed on both sides.
    """
    table = torch.tensor(rows, dtype=torch.float64)
    by_input, by_output = table.mean(1) - 0.5, table.mean(0) - 0.5
    limits = (4 / table.shape[1] ** 0.5, 4 / table.shape[0] ** 0.5)
    return bool(by_input.abs().max() < limits[0] and by_output.abs().max() < limits[1])


@pytest.mark.parametrize("data", [bytes(128), b"\xff" * 128, pattern(97)], ids=["0", "1", "mixed"])
def test_one_bit_flips_half_of_the_hash(data: bytes) -> None:
    assert is_avalanche(flipped_bits(hashing.hash_bytes, tensor_of(data)))


def test_a_weak_hash_is_no_avalanche() -> None:
    def weak(data: Tensor) -> int:
        return int.from_bytes(bytes(data.tolist()), "little") % (2**127 - 1) * 3

    assert not is_avalanche(flipped_bits(weak, tensor_of(pattern(97))))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, 4).t(),
        torch.ones(8)[::2],
        torch.ones(2, 2).to_sparse(),
        torch.ones(2).expand(3, 2),
    ],
    ids=["transposed", "strided", "sparse", "expanded"],
)
def test_memory_that_is_not_contiguous_is_refused(tensor: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"call \.contiguous\(\) first"):
        hashing.hash_bytes(tensor)


def test_other_devices_are_refused() -> None:
    with pytest.raises(RuntimeError, match="this one is on meta"):
        hashing.hash_bytes(torch.ones(2, device="meta"))


def runs_beside(work: Callable[[], object]) -> bool:
    """Whether another thread was seen running while ``work`` ran, in one of up to 50 tries.

    The switch interval is made so long that only who releases Python's lock lets others run.
    """
    inside, seen = threading.Event(), threading.Event()

    def body() -> None:
        for _ in range(50):
            inside.set()
            work()
            inside.clear()
            if seen.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        worker = threading.Thread(target=body)
        worker.start()
        while worker.is_alive():
            if inside.is_set():
                seen.set()
            time.sleep(0)
        worker.join()
    finally:
        sys.setswitchinterval(interval)
    return seen.is_set()


def test_hashing_lets_other_threads_run() -> None:
    large = torch.zeros(2**25, dtype=torch.uint8)
    hashing.hash_bytes(large)
    assert runs_beside(lambda: hashing.hash_bytes(large))


def test_python_code_does_not_let_other_threads_run() -> None:
    assert not runs_beside(lambda: sum(range(20_000)))
