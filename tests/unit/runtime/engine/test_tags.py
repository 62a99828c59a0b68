"""No two messages of a step between two workers have the same tag."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.program import Cargo, Op, Transfer
from ithaca.runtime.engine.tags import HEADER, PARTS, Tags


def all_tags(num_layers: int, num_micro_batches: int) -> list[int]:
    """The tag of everything that may be sent in one step."""
    tags = Tags(num_layers, num_micro_batches)
    ids = range(num_micro_batches)
    found = [
        tags.transfer(Transfer(Op.SEND, cargo, cut, mb, 1)) + part
        for cargo in Cargo
        for cut in range(1, num_layers)
        for mb in ids
        for part in range(PARTS)
    ]
    for layer in range(num_layers):
        found += [tags.reduce(layer, low) for low in ids]
        found.append(tags.gather(layer))
        found += [tags.tie(lower, layer) for lower in range(layer)]
    return [*found, tags.ballot]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_tags_are_distinct(num_layers: int, num_micro_batches: int) -> None:
    found = all_tags(num_layers, num_micro_batches)
    assert len(set(found)) == len(found)
    assert min(found) >= 0


def test_tags_of_a_large_job_fit_into_31_bits() -> None:
    assert max(all_tags(3, 2)) == Tags(3, 2).ballot
    assert Tags(200, 4096).ballot < 2**31


def test_both_ends_compute_the_same() -> None:
    tags = Tags(4, 4)
    sent = Transfer(Op.SEND, Cargo.GRADIENT, 2, 3, peer=1)
    received = Transfer(Op.RECV, Cargo.GRADIENT, 2, 3, peer=0)
    assert tags.transfer(sent) == tags.transfer(received)
    assert HEADER == PARTS - 1
