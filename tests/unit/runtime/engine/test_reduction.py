"""The sum over workers: the fixed tree, whoever holds and whoever brings what."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ithaca.planner.program import Reduce, Share
from ithaca.planner.span import Span
from ithaca.planner.tree import Node
from ithaca.runtime.engine import reduction
from ithaca.runtime.engine.flat import Flat
from ithaca.runtime.engine.partials import Partials
from ithaca.runtime.engine.reduction import exact_sum, fast_sum
from ithaca.runtime.engine.steps import Steps
from ithaca.runtime.engine.tags import Tags
from ithaca.runtime.engine.virtual import Deadlock, VirtualChannel, VirtualCluster

SHAPES = (torch.Size([3, 7]), torch.Size([]), torch.Size([40]))


def slow_tree(leaves: list[Tensor]) -> Tensor:
    """The sum of ``leaves``; the left half is the largest power of two below their number."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return slow_tree(leaves[:left]) + slow_tree(leaves[left:])


class Case:
    """Gradients of ``count`` micro-batches, dealt at random to ``holders`` workers."""

    def __init__(self, rng: Random, count: int, holders: int) -> None:
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        parts = [[torch.randn(s, generator=generator) for s in SHAPES] for _ in range(count)]
        self.flat = Flat.of(parts[0])
        self.leaves = [self.flat.pack(part) for part in parts]
        self.tags = Tags(4, count)
        self.workers = sorted(rng.sample(range(20), holders))
        dealt: dict[int, list[int]] = {worker: [] for worker in self.workers}
        for micro_batch in range(count):
            dealt[rng.choice(self.workers)].append(micro_batch)
        shares = tuple(Share(worker, tuple(ids)) for worker, ids in dealt.items())
        self.action = Reduce(Span(1, 3), shares)
        self.rng = rng

    def brought(self, share: Share) -> Mapping[Node, Tensor]:
        """The partial sums that a worker has, its micro-batches computed in any order."""
        partials: Partials[Tensor] = Partials(self.tags.num_micro_batches, reduction.add)
        ids = list(share.micro_batches)
        self.rng.shuffle(ids)
        for micro_batch in ids:
            partials.put(micro_batch, self.leaves[micro_batch])
        return partials.nodes()

    def sums(self, exact: bool = True) -> dict[int, Tensor]:
        """What every holder gets, over messages of any delay."""
        cluster = VirtualCluster(self.workers, lambda _: self.rng.random())

        def engine(channel: VirtualChannel, share: Share) -> Steps[Tensor]:
            mine, out = self.brought(share), torch.full((self.flat.size,), torch.nan)
            if not exact:
                return (yield from fast_sum(self.action, mine, out, channel))
            yield from exact_sum(self.action, mine, self.flat, out, channel, self.tags)
            channel.settle()
            return out

        shares = {share.worker: share for share in self.action.shares}
        return cluster.run({w: engine(cluster.channel(w), shares[w]) for w in self.workers})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 13), st.integers(1, 7), st.integers(0, 2**32))
def test_any_shares_give_the_bits_of_the_tree(count: int, holders: int, seed: int) -> None:
    case = Case(Random(seed), count, holders)
    before = [leaf.clone() for leaf in case.leaves]
    expected = slow_tree(case.leaves)
    for worker, total in case.sums().items():
        assert torch.equal(total, expected), f"worker {worker}"
    assert all(map(torch.equal, case.leaves, before)), "what was brought has changed"


def test_more_holders_than_chunks() -> None:
    case = Case(Random(1), 5, 12)
    assert case.flat.size // 16 < 12
    assert all(torch.equal(total, slow_tree(case.leaves)) for total in case.sums().values())


def test_fast_is_a_sum_but_another_one() -> None:
    case = Case(Random(3), 13, 4)
    expected = slow_tree(case.leaves)
    totals = list(case.sums(exact=False).values())
    assert all(torch.equal(total, totals[0]) for total in totals)
    torch.testing.assert_close(totals[0], expected)
    assert not torch.equal(totals[0], expected)


def test_a_share_that_is_not_brought_is_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(Random(2), 6, 3)
    brought = case.brought
    lost = next(share.worker for share in case.action.shares if share.micro_batches)
    monkeypatch.setattr(case, "brought", lambda s: {} if s.worker == lost else brought(s))
    with pytest.raises((Deadlock, KeyError)):
        case.sums()
