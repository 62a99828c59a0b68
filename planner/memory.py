"""How much memory a Program takes, counted action by action.

Counted are, as the engine keeps them:

- parameters and optimizer state of the layers that the worker holds;
- activations, from F until B or W of the micro-batch;
- gradient copies: one fp32 copy for each node of the reduction tree that is complete but whose
  sibling is not, plus the one being added (a binary counter over micro-batches);
- tensors that crossed a cut, sent or received, kept until commit for recovery;
- in REDUCE the received chunks of the other workers' partial sums, and from then to STEP the
  reduced gradient beside the partial sums.

What the allocator, the libraries and single operators need on top is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise

from ithaca.planner.profile import Profile
from ithaca.planner.program import Compute, Op, Program, Reduce, Step, Transfer
from ithaca.planner.span import Span
from ithaca.planner.tree import Node, cover, parent


@dataclass(slots=True)
class PartialSums:
    """The tree nodes that a worker holds while micro-batches complete, in any order.

    Attributes:
        num_micro_batches: leaves of the tree.
        nodes: the complete nodes that await their sibling.
    """

    num_micro_batches: int
    nodes: set[Node] = field(default_factory=set)

    def add(self, micro_batch: int) -> int:
        """Take in the gradient of ``micro_batch``; returns the number of additions it brought."""
        node: Node = (micro_batch, micro_batch + 1)
        additions = 0
        while (family := _family(node, self.num_micro_batches)) and family[0] in self.nodes:
            sibling, node = family
            self.nodes.remove(sibling)
            additions += 1
        self.nodes.add(node)
        return additions


@lru_cache(maxsize=1 << 16)
def _family(node: Node, num_micro_batches: int) -> tuple[Node, Node] | None:
    """The sibling and the parent of ``node``; None for the root."""
    above = parent(node, num_micro_batches)
    if above is None:
        return None
    return ((above[0], node[0]) if above[0] < node[0] else (node[1], above[1])), above


def copies(micro_batches: Iterable[int], num_micro_batches: int) -> tuple[int, ...]:
    """Gradient copies alive while each of ``micro_batches``, completed in this order, is added."""
    sums = PartialSums(num_micro_batches)
    alive = []
    for micro_batch in micro_batches:
        alive.append(len(sums.nodes) + 1)
        sums.add(micro_batch)
    return tuple(alive)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of one worker.

    Attributes:
        parameters, state: of the layers it holds, all the time.
        activations, gradients, boundaries: the most of each kind; not all at the same time.
        peak: the most of all together.
    """

    parameters: int
    state: int
    activations: int
    gradients: int
    boundaries: int
    peak: int


def usage(program: Program, profile: Profile, *, exact: bool = True) -> Usage:
    """The memory of ``program`` on ``profile``.

    ``exact`` is the fixed tree; otherwise gradients are accumulated in one copy, as for a plain
    all-reduce.

    Raises:
        ValueError: the profile has another number of layers.
    """
    if len(profile.layers) != program.num_layers:
        raise ValueError(
            f"the program has {program.num_layers} layers, the profile {len(profile.layers)}"
        )
    count = _Count(program, profile, exact)
    for action in program.actions:
        count.visit(action)
    return Usage(
        count.parameters,
        count.state,
        count.most["activations"],
        count.most["gradients"],
        count.most["boundaries"],
        count.peak,
    )


def peak_bytes(program: Program, profile: Profile, *, exact: bool = True) -> int:
    """The most bytes that ``program`` holds at once; see :func:`usage`."""
    return usage(program, profile, exact=exact).peak


class _Count:
    def __init__(self, program: Program, profile: Profile, exact: bool) -> None:
        self._layers = profile.layers
        self._num_micro_batches = program.num_micro_batches
        self._exact = exact
        self._now = {"activations": 0, "gradients": 0, "boundaries": 0}
        self._sums = {
            (piece, sum(self._layers[layer].grad_bytes for layer in piece)): PartialSums(
                program.num_micro_batches
            )
            for piece in _pieces(program)
        }
        self._saved = [0, *accumulate(layer.activation_bytes for layer in profile.layers)]
        held = _held(program)
        self._trains = any(isinstance(action, Step) for action in program.actions)
        self.parameters = sum(self._layers[layer].param_bytes for layer in held)
        self.state = sum(self._layers[layer].state_bytes for layer in held) * self._trains
        self.most = dict(self._now)
        self.peak = self._total = self.parameters + self.state

    def visit(self, action: object) -> None:
        match action:
            case Compute():
                self._compute(action)
            case Transfer():
                self._add("boundaries", self._layers[action.cut - 1].output_bytes)
            case Reduce():
                self._reduce(action)

    def _add(self, kind: str, size: int) -> None:
        now = self._now
        now[kind] += size
        self._total += size
        if size > 0:
            self.most[kind] = max(self.most[kind], now[kind])
            self.peak = max(self.peak, self._total)

    def _compute(self, action: Compute) -> None:
        saved = self._saved[action.layers.last] - self._saved[action.layers.first]
        if action.op is Op.F and self._trains:
            self._add("activations", saved)
        elif action.op is Op.F:  # nothing is saved, but while it runs one layer's values are there
            most = max(self._layers[layer].activation_bytes for layer in action.layers)
            self._add("activations", most)
            self._add("activations", -most)
        elif action.op is not Op.I:
            self._gradient(action.layers, action.micro_batch)
            self._add("activations", -saved)

    def _gradient(self, layers: Span, micro_batch: int) -> None:
        for (piece, size), sums in self._sums.items():
            if piece.first in layers:
                before = len(sums.nodes) if self._exact else min(len(sums.nodes), 1)
                self._add("gradients", size)
                sums.add(micro_batch)
                after = len(sums.nodes) if self._exact else 1
                self._add("gradients", (after - before - 1) * size)

    def _reduce(self, action: Reduce) -> None:
        size = sum(self._layers[layer].grad_bytes for layer in action.layers)
        arriving = incoming(action, self._num_micro_batches, size, exact=self._exact)
        if not self._exact:  # in place
            self._add("gradients", arriving)
            self._add("gradients", -arriving)
            return
        self._add("gradients", size + arriving)
        self._add("gradients", -arriving)


def incoming(action: Reduce, num_micro_batches: int, size: int, *, exact: bool) -> int:
    """Bytes of the chunks that a worker receives to add up its part of ``size`` gradient bytes.

    An upper bound that is the same for all workers: every worker's partial sums, one chunk each.
    """
    workers = len(action.shares)
    if workers == 1:
        return 0
    return partials(action, num_micro_batches, exact=exact) * -(-size // workers)


def partials(action: Reduce, num_micro_batches: int, *, exact: bool) -> int:
    """Partial sums that all workers together bring to ``action``."""
    if not exact:
        return len(action.shares)
    return sum(num_partials(share.micro_batches, num_micro_batches) for share in action.shares)


@lru_cache(maxsize=1 << 14)
def num_partials(micro_batches: tuple[int, ...], num_micro_batches: int) -> int:
    """Partial sums that ``micro_batches`` end up as; the same shares are asked for many times."""
    return len(cover(micro_batches, num_micro_batches))


def _held(program: Program) -> set[int]:
    """Layers that the worker steps or, without a step, computes."""
    found: set[int] = set()
    for action in program.actions:
        if isinstance(action, Step | Compute):
            found.update(action.layers)
    return found


def _pieces(program: Program) -> list[Span]:
    """The worker's layers, cut wherever one of its computes begins or ends."""
    spans = {action.layers for action in program.actions if isinstance(action, Compute)}
    borders = sorted({border for span in spans for border in (span.first, span.last)})
    return [
        Span(first, last)
        for first, last in pairwise(borders)
        if any(first in span for span in spans)
    ]
