"""Seconds that each action takes by a Profile, for the simulator.

A compute takes the sum over its layers; where I and W were not measured, half of B each. Behind a
weight gradient come the additions that the reduction tree makes possible. A REDUCE of n workers
is a reduce-scatter of all partial sums (each worker sends every other one its chunk of each
partial sum, a message each), additions in tree order, and an all-gather of the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ithaca.planner.layer import Layer
from ithaca.planner.memory import PartialSums, num_partials, partials
from ithaca.planner.profile import Profile
from ithaca.planner.program import (
    Action,
    Compute,
    Op,
    Program,
    Reduce,
    Replay,
    Spread,
    Step,
    Tie,
    Transfer,
)
from ithaca.planner.span import Span

VOTE_BYTES = 64
"""Size of one message of COMMIT."""


class Costs:
    """Seconds of actions; keeps the tree of each worker, so ask for each compute once, in order.

    Args:
        profile: with one entry per layer of the programs.
        programs: of all workers.
        exact: the fixed tree, or one running sum and a plain ring all-reduce.
    Raises:
        ValueError: the profile has another number of layers.
    """

    def __init__(
        self,
        profile: Profile,
        programs: Mapping[int, Program],
        *,
        exact: bool = True,
    ) -> None:
        for program in programs.values():
            if program.num_layers != len(profile.layers):
                raise ValueError(
                    f"the programs have {program.num_layers} layers, "
                    f"the profile {len(profile.layers)}"
                )
        self._profile = profile
        self._exact = exact
        self._workers = sorted(programs)
        self._num_micro_batches = max(p.num_micro_batches for p in programs.values())
        layers = profile.layers
        self._sums = {
            Op.F: _prefix([layer.forward_s for layer in layers]),
            Op.B: _prefix([layer.backward_s for layer in layers]),
            Op.I: _prefix([halves(layer)[0] for layer in layers]),
            Op.W: _prefix([halves(layer)[1] for layer in layers]),
            Op.STEP: _prefix([layer.step_s for layer in layers]),
        }
        self._bytes = _prefix([float(layer.grad_bytes) for layer in layers])
        self._trees: dict[tuple[int, Span], PartialSums] = {}

    def members(self, action: Action) -> Sequence[int]:
        """Workers that take part in a collective; for COMMIT all."""
        match action:
            case Reduce(shares=shares):
                return [share.worker for share in shares]
            case Tie(workers=workers) | Spread(workers=workers) | Replay(workers=workers):
                return workers
        return self._workers

    def seconds(self, worker: int, action: Action) -> float:
        """Seconds that ``action`` occupies ``worker``, without any wait."""
        overhead = self._profile.action_s
        match action:
            case Compute(op=op, layers=layers):
                work = _between(self._sums[op], layers)
                if op in (Op.B, Op.W):
                    work += self._additions(worker, action)
                return overhead + work
            case Step(layers=layers):
                return overhead + _between(self._sums[Op.STEP], layers)
            case Reduce():
                return overhead + self._reduce(action)
            case Spread():
                size = math.ceil(_between(self._bytes, action.layers))
                return overhead + len(action.targets) * self._profile.link.seconds(size)
            case Replay(layers=layers):
                work = _between(self._sums[Op.F], layers) + _between(self._sums[Op.B], layers)
                return (
                    overhead
                    + work
                    + 2
                    * self._profile.link.seconds(self._profile.layers[layers.last - 1].output_bytes)
                )
            case Tie():
                return overhead + tie_s(self._profile, action)
            case Transfer():
                return overhead
        return overhead + (len(self._workers) - 1) * self._profile.link.seconds(VOTE_BYTES)

    def _additions(self, worker: int, action: Compute) -> float:
        """The additions behind one weight gradient; as if no other span shared its layers."""
        key = (worker, action.layers)
        if key not in self._trees:
            self._trees[key] = PartialSums(self._num_micro_batches)
        tree = self._trees[key]
        fresh = not tree.nodes
        count = tree.add(action.micro_batch)
        if not self._exact:
            count = int(not fresh)
        return count * _between(self._bytes, action.layers) / self._profile.add_bytes_per_s

    def _reduce(self, action: Reduce) -> float:
        size = _between(self._bytes, action.layers)
        count = self._num_micro_batches
        total = partials(action, count, exact=self._exact)
        most = 1
        if self._exact:
            most = max(num_partials(share.micro_batches, count) for share in action.shares)
        return reduce_s(self._profile, size, len(action.shares), most, total)


def reduce_s(profile: Profile, size: float, workers: int, most: int, total: int) -> float:
    """Seconds of a REDUCE of ``size`` bytes.

    Args:
        profile: its link and its speed of additions.
        size: bytes of one gradient of the layers.
        workers: that take part.
        most: partial sums of the worker that brings most.
        total: partial sums of all.
    """
    add_s, link = 1 / profile.add_bytes_per_s, profile.link
    if workers == 1:
        return (total - 1) * size * add_s
    chunk = size / workers
    scatter = (workers - 1) * most * (link.latency_s + chunk / link.bytes_per_s)
    gather = (workers - 1) * (link.latency_s + chunk / link.bytes_per_s)
    return scatter + (total - 1) * chunk * add_s + gather


def tie_s(profile: Profile, action: Tie) -> float:
    """Seconds of a TIE: each end without the other's gradient gets it from one of that end."""
    lower, upper = set(action.lower_holders), set(action.upper_holders)
    layers, link = profile.layers, profile.link
    rounds_up = -(-len(upper - lower) // len(lower))
    rounds_down = -(-len(lower - upper) // len(upper))
    up = rounds_up * link.seconds(layers[action.lower].grad_bytes)
    down = rounds_down * link.seconds(layers[action.upper].grad_bytes)
    return max(up, down) + layers[action.lower].grad_bytes / profile.add_bytes_per_s


def halves(layer: Layer) -> tuple[float, float]:
    """Seconds of I and of W of ``layer``; half of B each if they were not measured."""
    if layer.input_s or layer.weight_s:
        return layer.input_s, layer.weight_s
    return layer.backward_s / 2, layer.backward_s / 2


def _prefix(values: Sequence[float]) -> list[float]:
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return sums


def _between(sums: Sequence[float], layers: Span) -> float:
    return sums[layers.last] - sums[layers.first]
