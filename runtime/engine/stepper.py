"""One worker's way from step to step and from generation to generation.

What a worker holds outlives the generation in which it got it: the state of its layers, and
whatever has been computed of the step under way. A generator that waits for a message may be
closed at any point that is not inside STEP; :meth:`Stepper.standing` then says what is here, and
:meth:`Stepper.join` takes it into the next generation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program, Step
from ithaca.planner.replay import replay_of, with_replay
from ithaca.planner.span import Span
from ithaca.recovery.orders import Orders
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Move, Rounds
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.channel import Channel, CorruptState
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.interpreter import AHEAD, interpret
from ithaca.runtime.engine.machine import StepMachine, Wires
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.engine.steps import After, Before, Pending, Steps
from ithaca.runtime.engine.tags import Tags


def seal_state(state: Mapping[str, Tensor]) -> str:
    """A hash of a layer's state."""
    return combine({key: hash_tensor(tensor) for key, tensor in state.items()})


class Stepper(ABC):
    """Steps the layers of one worker. A subclass says what a layer is.

    Args:
        exact: sum gradients in the fixed tree.
        fixed_shapes: all micro-batches have the same shapes.
        device: where tensors are.
        sealed: hash states and gradients at rest, and check them before they are used.
        replay_every: steps between two in which a part of a micro-batch is computed twice; 0:
            never.

    Attributes:
        step: steps that are committed here; the one under way has this number.
        generation: of the plan that it takes part in.
        tally: of the last committed step.
        validated: the last step behind which a validation ended; -1 for none.
        under_way: the step that was begun and not committed; None between steps.
        corrupt: why the step under way may not be used; empty if nothing is known.
    """

    def __init__(
        self,
        exact: bool,
        fixed_shapes: bool,
        device: torch.device,
        *,
        sealed: bool = False,
        replay_every: int = 0,
    ) -> None:
        self.step = 0
        self.generation = -1
        self.tally: Tally | None = None
        self.validated = -1
        self.under_way: StepMachine | None = None
        self.corrupt = ""
        self._plan: Plan | None = None
        self._worker = -1
        self._exact = exact
        self._fixed_shapes = fixed_shapes
        self._device = device
        self._sealed = sealed
        self._replay_every = replay_every
        self._seals: dict[int, str] = {}
        self._wires: Wires | None = None
        self._draining = False
        self._pausing = False

    @abstractmethod
    def held(self) -> frozenset[int]:
        """Layers whose state is here."""

    @abstractmethod
    def state(self, layer: int) -> Mapping[str, Tensor]:
        """The state of a held layer: references."""

    @abstractmethod
    def expect(self, layer: int) -> Mapping[str, Tensor]:
        """Memory for the state of a layer that is to come; it is not held yet."""

    @abstractmethod
    def accept(self, layer: int) -> None:
        """The memory that :meth:`expect` gave is filled: the layer is held."""

    @abstractmethod
    def drop(self, layers: Iterable[int]) -> None:
        """Give up the state of held layers."""

    @abstractmethod
    def restore(self, step: int, states: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go back to the layers in ``states`` as they were after ``step`` steps."""

    @abstractmethod
    def machine(
        self, program: Program, wires: Wires, layers: Iterable[int], training: bool
    ) -> StepMachine:
        """A machine for a step on some of the held layers."""

    @property
    def later_bytes(self) -> int:
        """What the coming training steps hold beyond the last one, at most: as long as shapes are
        not known, what is received ahead of its turn are headers."""
        return AHEAD * self._wires.late_bytes if self._wires is not None else 0

    # -- generations

    def connect(self, channel: Channel) -> None:
        """Use ``channel`` from now on: a new generation, without orders."""
        self._wire(channel, channel.workers)

    def _wire(self, channel: Channel, members: tuple[int, ...]) -> None:
        self._wires = Wires(
            channel, members, self._exact, self._fixed_shapes, self._device, self._sealed
        )

    def join(self, orders: Orders, worker: int, channel: Channel) -> None:
        """Take part in a new generation; :meth:`enter` comes next.

        Args:
            orders: for this worker.
            worker: this one.
            channel: of the new generation.
        """
        self._wire(channel, orders.plan.workers)
        self._plan, self._worker = orders.plan, worker
        self.generation = orders.plan.generation
        self._pausing = False
        if self.step < orders.step and orders.tally is None:
            # It took no part in the last step: what it holds is out of date.
            self.drop(self.held())
            self.under_way, self.tally, self.step = None, None, orders.step
        self._seals.clear()
        if orders.discard and orders.tally is None:
            self.under_way, self.corrupt = None, ""
        if self.under_way is not None:
            assert self._wires is not None
            self.under_way.rewire(self._wires, self.held() & set(orders.plan.held(worker)))

    def enter(self, orders: Orders) -> Steps[None]:
        """Do what comes before the first action of the generation: roll forward, move state."""
        if orders.tally is not None:
            yield from self._roll_forward(orders.tally)
        if orders.moves:
            yield from self._move(orders.moves, orders.plan)

    def standing(self, worker: int) -> Standing:
        """What is held; only while no generator of this stepper runs."""
        machine = self.under_way
        if machine is None:
            return Standing(
                worker, self.generation, self.step, self.held(),
                tally=self.tally, validated=self.validated, corrupt=self.corrupt,
            )  # fmt: skip
        places = {cargo: frozenset[tuple[int, int]]() for cargo in ("a", "g")}
        for cargo, cut, micro_batch in machine.values:
            places[cargo.value] |= {(cut, micro_batch)}
        forwards, owed = machine.begun()
        return Standing(
            worker=worker,
            generation=self.generation,
            step=self.step,
            layers=self.held(),
            summed={layer: sums.micro_batches() for layer, sums in machine.partials.items()},
            reduced=frozenset(machine.reduced),
            activations=places["a"],
            gradients=places["g"],
            forwards=forwards,
            owed=owed,
            losses=frozenset(machine.ballot.losses),
            voted=machine.voted,
            tally=self.tally,
            validated=self.validated,
            corrupt=self.corrupt,
        )

    def _roll_forward(self, tally: Tally) -> Steps[None]:
        """The step was committed elsewhere; everything that it needs was reduced here."""
        machine = self.under_way
        if machine is None:
            raise RuntimeError(f"step {self.step} is to be rolled forward, but nothing is held")
        for layer in sorted(machine.reduced):
            action = Step(Span(layer, layer + 1))
            yield Before(action)
            machine.step(action, tally)
            yield After(action)
        self._committed(tally)

    def _move(self, rounds: Rounds, plan: Plan) -> Steps[None]:
        """Send and receive states; a layer is held when all of it has come."""
        assert self._wires is not None
        channel, tags = self._wires.channel, Tags(plan.num_layers, plan.num_micro_batches)
        for moves in rounds:
            arriving: list[tuple[Move, list[Pending]]] = []
            for move in moves:
                if move.target == channel.worker and move.layer not in self.held():
                    yield Before(move)
                    room = self.expect(move.layer)
                    posted = [
                        channel.receive(move.source, tags.state(move.layer, part), room[key])
                        for part, key in enumerate(sorted(room))
                    ]
                    arriving.append((move, posted))
            for move in moves:
                if move.source == channel.worker:
                    yield Before(move)
                    state = self.state(move.layer)
                    for part, key in enumerate(sorted(state)):
                        content = state[key].detach()
                        channel.send(move.target, tags.state(move.layer, part), content)
                    yield After(move)
            for move, posted in arriving:
                for pending in posted:
                    _ = yield pending  # into the room that was made for it
                self.accept(move.layer)
                yield After(move)
        yield from self._thank(rounds, plan, tags)

    def _thank(self, rounds: Rounds, plan: Plan, tags: Tags) -> Steps[None]:
        """Let those who only give state away stay until it has come."""
        assert self._wires is not None
        channel, thanks = self._wires.channel, torch.zeros(1)
        for move in (move for moves in rounds for move in moves if move.source not in plan.workers):
            if move.target == channel.worker:
                channel.send(move.source, tags.thanks(move.layer), thanks)
            elif move.source == channel.worker:
                _ = yield channel.receive(move.target, tags.thanks(move.layer), torch.empty(1))

    # -- steps

    def drain(self) -> None:
        """Ask everybody, with the next ballot, to stop behind the step."""
        self._draining = True

    def pause(self) -> None:
        """Ask everybody, with the next ballot, to stand still behind the step."""
        self._pausing = True

    def train_step(self, program: Program, rest: bool = False) -> Steps[Tally]:
        """Run one training step; afterwards ``step`` counts it as committed.

        Args:
            program: of the whole step.
            rest: it is what is left of the step under way.
        """
        if rest and self.under_way is not None:
            machine = self.under_way
        else:
            program = self._with_replay(program)
            self.under_way = machine = self._new_machine(program, training=True)
        machine.ballot.drain, machine.ballot.pause = self._draining, self._pausing
        self._seal_states()
        machine.check = self._check_seals
        tally = yield from interpret(program, machine)
        self._committed(tally)
        return tally

    def _with_replay(self, program: Program) -> Program:
        """Everybody draws the same place from the plan and the step."""
        if not self._replay_every or self._plan is None or self.step % self._replay_every:
            return program
        return with_replay(program, replay_of(self._plan, self.step // self._replay_every))

    def _seal_states(self) -> None:
        """Note what the state is, where it is not known."""
        if self._sealed:
            for layer in self.held() - self._seals.keys():
                self._seals[layer] = seal_state(self.state(layer))

    def _check_seals(self) -> None:
        """Raise :class:`CorruptState` if a layer's state is not what STEP left."""
        for layer, before in self._seals.items():
            if layer in self.held() and seal_state(self.state(layer)) != before:
                raise CorruptState(f"the state of layer {layer} has changed since its last step")

    def _committed(self, tally: Tally) -> None:
        self._seals.clear()
        self.step += 1
        self.tally = tally
        self.under_way = None
        if self._plan is not None:
            self.drop(self.held().difference(self._plan.held(self._worker)))

    def validate(self, program: Program) -> Steps[Tally]:
        """Run the forward-only ``program``; nothing changes."""
        tally = yield from interpret(program, self._new_machine(program, training=False))
        self.validated = self.step
        return tally

    def _new_machine(self, program: Program, training: bool) -> StepMachine:
        if self._wires is None:
            raise RuntimeError("there is no channel yet")
        layers = self.held() if self._plan is None else self._plan.held(self._worker)
        return self.machine(program, self._wires, layers, training)
