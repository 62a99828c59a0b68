"""Gradients in one vector: alignment, round trip, chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.engine.flat import ALIGNMENT, Flat

SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=6)


def numbered(shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Tensors with different positive numbers everywhere."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = torch.arange(1.0, sum(sizes) + 1).split(sizes)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_round_trip_and_alignment(shapes: list[tuple[int, ...]]) -> None:
    tensors = numbered(shapes)
    flat = Flat.of(tensors)
    vector = flat.pack(tensors)
    back = flat.unpack(vector)
    assert vector.numel() == flat.size
    assert all(map(torch.equal, back, tensors))
    assert vector.count_nonzero() == sum(tensor.numel() for tensor in tensors), "padding is zero"
    for part in back:
        if part.numel():
            assert part.data_ptr() % (ALIGNMENT * 4) == 0
            assert part.untyped_storage().data_ptr() == vector.untyped_storage().data_ptr()


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 9))
def test_chunks_cover_the_vector_in_aligned_pieces(
    shapes: list[tuple[int, ...]], count: int
) -> None:
    flat = Flat.of(numbered(shapes))
    chunks = flat.chunks(count)
    assert len(chunks) == count
    assert (chunks[0][0], chunks[-1][1]) == (0, flat.size)
    assert all(one[1] == other[0] for one, other in pairwise(chunks))
    assert all(start <= end and start % ALIGNMENT == 0 for start, end in chunks)
    sizes = [end - start for start, end in chunks]
    assert max(sizes) - min(sizes) <= ALIGNMENT


def test_packing_copies() -> None:
    source = [torch.ones(3), torch.ones(2, 2).t()]
    flat = Flat.of(source)
    vector = flat.pack(source)
    source[0].zero_()
    assert vector.sum() == 7


def test_packing_refuses_other_tensors() -> None:
    flat = Flat.of([torch.zeros(3)])
    for others in ([torch.zeros(3), torch.zeros(1)], [torch.zeros(4)]):
        with pytest.raises(ValueError, match="this layout is for"):
            flat.pack(others)
