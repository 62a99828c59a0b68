"""The part of a worker's step that is messages: values, reductions, ties and the commit."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ithaca.planner.program import (
    Cargo,
    Compute,
    Program,
    Reduce,
    Replay,
    Spread,
    Step,
    Tie,
    Transfer,
)
from ithaca.planner.span import Span
from ithaca.planner.tree import Node, cover
from ithaca.recovery.standing import Place
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.ballot import Ballot, ReplicasDiffer
from ithaca.runtime.engine.channel import Channel, ChannelError, CorruptMessage, CorruptState
from ithaca.runtime.engine.courier import Courier, Form, Key, empty_header
from ithaca.runtime.engine.flat import Flat
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.partials import Partials
from ithaca.runtime.engine.reduction import exact_sum, fast_sum
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.engine.steps import After, Pending, Steps, Vote
from ithaca.runtime.engine.tags import HEADER, PARTS, Tags
from ithaca.runtime.workload import Value, tensors

logger = logging.getLogger(__name__)

Gradients = list[Tensor]
"""The gradients of one layer, parameter by parameter, fp32."""


def add_gradients(left: Gradients, right: Gradients) -> Gradients:
    """left + right, in the memory of ``left``."""
    if left:
        torch._foreach_add_(left, right)
    return left


def seal(gradients: Gradients) -> str:
    """A hash of a layer's gradients."""
    return combine({str(i): hash_tensor(gradient) for i, gradient in enumerate(gradients)})


@dataclass(slots=True)
class Wires:
    """A generation's channel, and what lives from step to step beside it.

    Attributes:
        channel: to the other workers.
        members: who votes; others may be there to give state away.
        exact: sum gradients in the fixed tree.
        sealed: check that gradients at rest do not change.
        fixed_shapes: all micro-batches have the same shapes.
        device: where tensors are.
        couriers: one for each kind of Program.
        vectors: by span, the packed partial sum of each node, and under None the reduced one;
            kept because large allocations are handed back to the system and zeroed anew.
    """

    channel: Channel
    members: tuple[int, ...]
    exact: bool
    fixed_shapes: bool
    device: torch.device
    sealed: bool = False
    couriers: dict[tuple[int, bool], Courier] = field(default_factory=dict)
    vectors: dict[Span, dict[Node | None, Tensor]] = field(default_factory=dict)

    def courier(self, tags: Tags, training: bool) -> Courier:
        """The courier for Programs of this size; it remembers shapes from step to step."""
        key = tags.num_micro_batches, training
        if key not in self.couriers:
            self.couriers[key] = Courier(self.channel, tags, self.fixed_shapes, self.device)
        return self.couriers[key]

    @property
    def late_bytes(self) -> int:
        """Of the largest value whose room was not made ahead in the last training step."""
        late = [part.late_bytes for (_, training), part in self.couriers.items() if training]
        return max(late, default=0)


class StepMachine(ABC):
    """One worker in one step. A subclass computes; this class moves, sums and votes.

    It outlives its generation: when the step goes on in another one, with other wires and another
    Program, everything that has been computed is still here.

    Attributes:
        values: what lies at the cuts, kept until the step is over.
        partials: per held layer, the sums of gradients so far.
        reduced: per held layer, the sum over all micro-batches, once REDUCE is done.
        tied: per layer with shared weights, ``reduced`` with the other layer's gradient added.
        ballot: this worker's part of the commit.
        voted: whether the ballot was sent.
        tally: what all ballots said; None before.
        watched: what this worker was drawn to be replayed on, with the hash of what it computed.
        check: called before the vote; raises if something makes this worker's part worthless.
    """

    def __init__(
        self, program: Program, step: int, wires: Wires, held: Sequence[int], training: bool
    ) -> None:
        self._sealed = wires.sealed
        self.tags = Tags(program.num_layers, program.num_micro_batches)
        self.step_number = step
        self.training = training
        self.values: dict[Key, Value] = {}
        self.partials: dict[int, Partials[Gradients]] = {
            layer: self._empty(program.num_micro_batches) for layer in held
        }
        self.reduced: dict[int, Gradients] = {}
        self.tied: dict[int, Gradients] = {}
        self.ballot = Ballot(program.num_layers, program.num_micro_batches, step)
        self.voted = False
        self.tally: Tally | None = None
        self.watched: dict[tuple[Span, int], str] = {
            (action.layers, action.micro_batch): ""
            for action in program
            if isinstance(action, Replay) and action.source == program.worker
        }
        self.check: Callable[[], None] = lambda: None
        self._wires = wires
        self._courier = wires.courier(self.tags, training)

    def rewire(self, wires: Wires, layers: Iterable[int]) -> None:
        """Go on in a new generation: what was on its way is lost, what is here stays.

        ``layers`` are those of the new plan; some may not have been in the one before.
        """
        for layer in layers:
            if layer not in self.partials:
                self.partials[layer] = self._empty(self.tags.num_micro_batches)
        self._wires = wires
        self._courier = wires.courier(self.tags, self.training)
        self.voted = False

    def _empty(self, num_micro_batches: int) -> Partials[Gradients]:
        return Partials(num_micro_batches, add_gradients, seal if self._sealed else None)

    @abstractmethod
    def compute(self, action: Compute) -> None:
        """F, B, I or W."""

    @abstractmethod
    def step(self, action: Step, tally: Tally) -> None:
        """Change the weights with ``reduced``."""

    @abstractmethod
    def again(self, layers: Span, micro_batch: int) -> str:
        """Compute F and B again from ``values``, apart; the hash of the weight gradients.

        Nothing that this worker holds of the step changes but ``values``.
        """

    @abstractmethod
    def begun(self) -> tuple[frozenset[Place], frozenset[Place]]:
        """(layer, micro-batch) between F and B or I, and those between I and W."""

    @abstractmethod
    def templates(self, layer: int) -> Sequence[Tensor]:
        """Tensors with the shapes of the layer's gradients."""

    @abstractmethod
    def squares(self, layer: int, gradients: Gradients) -> float:
        """What the layer adds to the square of the global norm."""

    @abstractmethod
    def shared(self, lower: int, upper: int) -> list[tuple[int, int]]:
        """Positions of the shared parameters in the lower and in the upper layer."""

    def send(self, action: Transfer) -> None:
        """Start to send the value that the action names."""
        self._courier.send(action, self.values[action.key])

    def can_post(self, action: Transfer) -> bool:
        """Whether the receive's shapes are known."""
        self._seed(action)
        return self._courier.can_post(action)

    def post(self, action: Transfer) -> None:
        """Post the receive."""
        self._seed(action)
        self._courier.post(action)

    def _seed(self, action: Transfer) -> None:
        """A gradient has the form of its activation, which may never have been sent from here."""
        key = (Cargo.ACTIVATION, action.cut, action.micro_batch)
        if action.cargo is Cargo.GRADIENT and key in self.values:
            self._courier.seed(action.cut, action.micro_batch, self.values[key])

    def gradients(self, layer: int) -> Gradients:
        """What the layer is stepped with."""
        return self.tied.get(layer, self.reduced[layer])

    def awaits(self, key: Key) -> bool:
        """Whether the value must still be fetched."""
        return self._courier.awaits(key)

    def fetch(self, key: Key) -> Steps[None]:
        """Wait for the value; afterwards it is in ``values``."""
        self.values[key] = yield from self._courier.fetch(key)

    def reduce(self, action: Reduce) -> Steps[None]:
        """Fill ``reduced`` for the action's layers."""
        nodes = {layer: self.partials[layer].nodes() for layer in action.layers}
        self._check_share(action, nodes)
        if len(action.shares) == 1:
            for layer, sums in nodes.items():
                self.reduced[layer] = sums[0, self.tags.num_micro_batches]
        else:
            others = [s.worker for s in action.shares if s.worker != self._wires.channel.worker]
            told = self._tell(action.layers, others, others)
            views = yield from self._reduce_over_workers(action, nodes)
            yield from self._hear(action.layers, told)
            self._take_reduced(action.layers, views)

    def spread(self, action: Spread) -> Steps[None]:
        """Give the reduced gradient to holders that lack it, or take it."""
        channel, tag = self._wires.channel, self.tags.spread(action.layers.first)
        flat = self._flat(action.layers)
        if channel.worker == action.source:
            self._tell(action.layers, action.targets, ())
            vector = flat.pack([t for layer in action.layers for t in self.reduced[layer]])
            for target in action.targets if flat.size else ():
                channel.send(target, tag, vector)
            return
        told = self._tell(action.layers, (), [action.source])
        vector = torch.zeros(flat.size, device=self._wires.device)
        if flat.size:
            vector = yield channel.receive(action.source, tag, vector)
        yield from self._hear(action.layers, told)
        self._take_reduced(action.layers, flat.unpack(vector))

    def _flat(self, layers: Span) -> Flat:
        return Flat.of([tensor for layer in layers for tensor in self.templates(layer)])

    def _take_reduced(self, layers: Span, views: Sequence[Tensor]) -> None:
        left = iter(views)
        for layer in layers:
            self.reduced[layer] = [next(left) for _ in self.templates(layer)]

    def _tell(self, layers: Span, to: Sequence[int], hear: Sequence[int]) -> list[Pending]:
        """Send the losses that belong to ``layers``, and post the receives of those of others."""
        channel, tag = self._wires.channel, self.tags.facts(layers.first)
        mine = torch.from_numpy(self.ballot.facts(layers))
        posted = [channel.receive(peer, tag, torch.empty_like(mine)) for peer in hear]
        for peer in to:
            channel.send(peer, tag, mine)
        return posted

    def _hear(self, layers: Span, posted: Sequence[Pending]) -> Steps[None]:
        for pending in posted:
            self.ballot.learn(layers, (yield pending).numpy())

    def _check_share(self, action: Reduce, nodes: Mapping[int, Mapping[Node, Gradients]]) -> None:
        worker = self._wires.channel.worker
        share = next((s for s in action.shares if s.worker == worker), None)
        if share is None:
            raise ValueError(f"{action} does not name worker {worker}, whose program it is in")
        promised = cover(share.micro_batches, self.tags.num_micro_batches)
        for layer, sums in nodes.items():
            if tuple(sums) != promised:
                raise ValueError(
                    f"{action} promises the sums {promised} of layer {layer}, worker {worker} "
                    f"has {tuple(sums)}"
                )

    def _reduce_over_workers(
        self, action: Reduce, nodes: Mapping[int, Mapping[Node, Gradients]]
    ) -> Steps[list[Tensor]]:
        flat = self._flat(action.layers)
        kept = self._wires.vectors.setdefault(action.layers, {})
        for node in nodes[action.layers.first]:
            parts = [t for layer in action.layers for t in nodes[layer][node]]
            kept[node] = flat.pack(parts, kept.get(node))
        mine = {node: kept[node] for node in nodes[action.layers.first]}
        if None not in kept:
            kept[None] = torch.zeros(flat.size, device=self._wires.device)
        out = kept[None]
        if flat.size == 0:
            pass
        elif self._wires.exact:
            yield from exact_sum(action, mine, flat, out, self._wires.channel, self.tags)
        else:
            out = yield from fast_sum(action, mine, out, self._wires.channel)
        return flat.unpack(out)

    def tie(self, action: Tie) -> Steps[None]:
        """Take lower + upper as the gradients of shared weights, on both ends.

        Made from ``reduced``, which stays as it is: so it can be done again in another generation.
        """
        channel, tag = self._wires.channel, self.tags.tie(action.lower, action.upper)
        pairs = self.shared(action.lower, action.upper)
        ends = {
            action.lower: (action.lower_holders, [low for low, _ in pairs]),
            action.upper: (action.upper_holders, [high for _, high in pairs]),
        }
        sums: dict[int, Tensor] = {}
        flat: Flat | None = None
        for layer, (holders, positions) in ends.items():
            if channel.worker in holders:
                parts = [self.reduced[layer][position] for position in positions]
                flat = Flat.of(parts)
                sums[layer] = flat.pack(parts)
        assert flat is not None, "the program ties layers that this worker does not hold"
        for layer, (holders, _) in ends.items():
            others = ends[action.upper if layer == action.lower else action.lower][0]
            for turn, receiver in enumerate(w for w in others if w not in holders):
                source = holders[turn % len(holders)]
                if source == channel.worker:
                    channel.send(receiver, tag, sums[layer])
                elif receiver == channel.worker:
                    buffer = torch.empty(flat.size, device=self._wires.device)
                    sums[layer] = yield channel.receive(source, tag, buffer)
        total = flat.unpack(sums[action.lower] + sums[action.upper])
        for layer, (holders, positions) in ends.items():
            if channel.worker in holders:
                gradients = list(self.gradients(layer))
                for position, gradient in zip(positions, total, strict=True):
                    gradients[position] = gradient.clone()
                self.tied[layer] = gradients

    def replay(self, action: Replay) -> Steps[None]:
        """The target computes again what the source has computed; both must get the same bits.

        Raises:
            CorruptState: this worker is the one that computes something else.
        """
        channel, tags = self._wires.channel, self.tags
        is_source = channel.worker == action.source
        peer = action.target if is_source else action.source
        yield from self._lend(action, peer, is_source)
        mine = self.watched.get((action.layers, action.micro_batch), "")
        if not mine:
            mine = self.again(action.layers, action.micro_batch)
        theirs = yield from self._compare(peer, tags.replay(2 * PARTS), mine)
        if theirs == mine:
            return
        # One of them was wrong once: whoever does not repeat its own result.
        second = self.again(action.layers, action.micro_batch)
        theirs_again = yield from self._compare(peer, tags.replay(2 * PARTS + 1), second)
        if second != mine or theirs_again == theirs:
            raise CorruptState(
                f"{action}: this worker computed {mine[:8]} and then {second[:8]}, worker {peer} "
                f"{theirs[:8]} and then {theirs_again[:8]}"
            )
        raise CorruptMessage(f"{action}: worker {peer} computes other bits than before")

    def _compare(self, peer: int, tag: int, mine: str) -> Steps[str]:
        channel = self._wires.channel
        posted = channel.receive(peer, tag, torch.empty(4, dtype=torch.int64))
        words = [int(mine[i : i + 8], 16) for i in range(0, 32, 8)]
        channel.send(peer, tag, torch.tensor(words))
        return "".join(f"{word:08x}" for word in (yield posted).tolist())

    def _lend(self, action: Replay, peer: int, is_source: bool) -> Steps[None]:
        """Let the target have the source's input and the gradient of its output."""
        channel, layers = self._wires.channel, action.layers
        wanted = [(Cargo.ACTIVATION, layers.first)] if layers.first > 0 else []
        if layers.last < self.tags.num_layers:
            wanted.append((Cargo.GRADIENT, layers.last))
        for place, (cargo, cut) in enumerate(wanted):
            key, tag = (cargo, cut, action.micro_batch), self.tags.replay(place * PARTS)
            if is_source:
                value = self.values[key]
                channel.send(peer, tag + HEADER, Form.of(value).header())
                for part, tensor in enumerate(tensors(value)):
                    channel.send(peer, tag + part, tensor)
            else:
                form = Form.read((yield channel.receive(peer, tag + HEADER, empty_header())))
                parts = []
                for part, (dtype, shape) in enumerate(form.parts):
                    room = torch.empty(shape, dtype=dtype, device=self._wires.device)
                    parts.append((yield channel.receive(peer, tag + part, room)))
                self.values[key] = form.value(parts)

    def commit(self) -> Steps[Tally]:
        """Vote, and count everybody's ballots."""
        channel = self._wires.channel
        self.check()
        for layer in self.reduced:
            self.ballot.squares[layer] = self.squares(layer, self.gradients(layer))
            if self._sealed:
                self.ballot.prints[layer] = int(seal(self.gradients(layer)), 16) % 2**62
        mine = torch.from_numpy(self.ballot.pack())
        peers = [worker for worker in self._wires.members if worker != channel.worker]
        posted = [channel.receive(p, self.tags.ballot, torch.empty_like(mine)) for p in peers]
        for peer in peers:
            channel.send(peer, self.tags.ballot, mine)
            yield After(Vote(peer))
        self.voted = True
        ballots = [mine.numpy()]
        for pending in posted:
            ballots.append((yield pending).numpy())
        try:
            self.tally = tally = self.ballot.tally(ballots)
        except ReplicasDiffer as error:
            # Whose is wrong nobody can tell; but the partial sums are sealed, so all reduce again.
            self.reduced.clear()
            self.tied.clear()
            self.ballot.squares.clear()
            raise CorruptMessage(str(error)) from error
        try:
            channel.settle()
        except ChannelError as error:
            # Who does not take our messages any more has voted before. What all have voted for is
            # done (I1), and whoever is gone will be missed at the next message.
            logger.warning("behind the commit of step %d: %s", self.step_number, error)
        self._courier.end_step()
        return tally
