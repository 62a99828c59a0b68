"""Runs Programs without autograd: numbers so mixed that any wrong routing changes the result.

A value over a cut is one float64 that holds an integer, a function of everything below it; the
gradient likewise. The weight gradient of a layer depends on both, so a reduced gradient has the
right bits only if every micro-batch went through every layer once, in the right company, and was
added in the right order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ithaca.planner.program import Cargo, Compute, Op, Program, Step
from ithaca.planner.span import Span
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.interpreter import interpret
from ithaca.runtime.engine.machine import Gradients, StepMachine, Wires
from ithaca.runtime.engine.steps import Point
from ithaca.runtime.engine.virtual import Address, VirtualCluster

PRIME = 65521
SHAPES = ((37,), (5,))
TIED = 1
"""Position of the parameter that tied layers share."""
CPU = torch.device("cpu")
Pair = tuple[int, int]
"""Layer and micro-batch."""


def mix(seed: int, layer: int, micro_batch: int) -> int:
    """What a layer makes of ``seed``; different for almost all arguments."""
    return (seed * 263 + layer * 7919 + micro_batch * 104729 + 1) % PRIME


def count_of(micro_batch: int) -> int:
    """Terms of the micro-batch's loss."""
    return 1 + micro_batch % 3


@cache
def noise(layer: int) -> tuple[Tensor, ...]:
    """A fixed direction for each of a layer's gradients."""
    generator = torch.Generator().manual_seed(layer)
    return tuple(torch.randn(shape, generator=generator) for shape in SHAPES)


def contribution(layer: int, activation: int, gradient: int) -> Gradients:
    """The weight gradient of one micro-batch."""
    size = 1 + mix(activation, layer, gradient) / 1000
    return [direction * size for direction in noise(layer)]


class ToyMachine(StepMachine):
    """One worker's step.

    Attributes:
        ledger: how often each (layer, micro-batch) was computed, by F, I and W; B is both.
        stepped: layers in the order in which they were stepped.
    """

    def __init__(self, program: Program, step: int, wires: Wires, held: Sequence[int]) -> None:
        super().__init__(program, step, wires, held, training=True)
        self.ledger: Counter[tuple[Op, int, int]] = Counter()
        self.stepped: list[int] = []
        self._num_layers = program.num_layers
        self._activations: dict[Pair, int] = {}
        self._owed: dict[Pair, int] = {}

    def compute(self, action: Compute) -> None:
        """F, B, I or W on integers."""
        match action.op:
            case Op.F:
                self._forward(action)
            case Op.W:
                self._weights(action)
            case Op.I:
                self._inputs(action)
            case _:
                self._inputs(action)
                self._weights(action)

    def _forward(self, action: Compute) -> None:
        first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
        value = self._read(Cargo.ACTIVATION, first, micro_batch) if first else micro_batch
        for layer in action.layers:
            self.ledger[Op.F, layer, micro_batch] += 1
            self._activations[layer, micro_batch] = value
            value = mix(value, layer, micro_batch)
        if last < self._num_layers:
            self._write(Cargo.ACTIVATION, last, micro_batch, value)
        else:
            self.ballot.losses[micro_batch] = (float(value), count_of(micro_batch), 1)

    def _inputs(self, action: Compute) -> None:
        first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
        gradient = 1
        if last < self._num_layers:
            gradient = self._read(Cargo.GRADIENT, last, micro_batch)
        for layer in reversed(action.layers):
            self.ledger[Op.I, layer, micro_batch] += 1
            self._owed[layer, micro_batch] = gradient
            gradient = mix(gradient + self._activations[layer, micro_batch], layer, micro_batch)
        if first > 0:
            self._write(Cargo.GRADIENT, first, micro_batch, gradient)

    def _weights(self, action: Compute) -> None:
        for layer in reversed(action.layers):
            key = (layer, action.micro_batch)
            self.ledger[Op.W, layer, action.micro_batch] += 1
            found = contribution(layer, self._activations.pop(key), self._owed.pop(key))
            self.partials[layer].put(action.micro_batch, found)

    def again(self, layers: Span, micro_batch: int) -> str:
        """Nothing is sampled here."""
        raise AssertionError(f"a replay of {layers} m{micro_batch} in a toy")

    def begun(self) -> tuple[frozenset[Pair], frozenset[Pair]]:
        """Forwards without and with their input gradient."""
        owed = frozenset(self._owed)
        return frozenset(self._activations) - owed, owed

    def _read(self, cargo: Cargo, cut: int, micro_batch: int) -> int:
        value = self.values[cargo, cut, micro_batch]
        assert isinstance(value, Tensor)
        return int(value.item())

    def _write(self, cargo: Cargo, cut: int, micro_batch: int, value: int) -> None:
        self.values[cargo, cut, micro_batch] = torch.tensor([value], dtype=torch.float64)

    def step(self, action: Step, tally: Tally) -> None:
        """Only noted."""
        self.stepped.extend(action.layers)

    def templates(self, layer: int) -> Sequence[Tensor]:
        """Two gradients of each layer."""
        return noise(layer)

    def squares(self, layer: int, gradients: Gradients) -> float:
        """Of all gradients."""
        return square(gradients)

    def shared(self, lower: int, upper: int) -> list[Pair]:
        """One position is shared."""
        return [(TIED, TIED)]


def run(
    programs: Mapping[int, Program],
    held: Mapping[int, Sequence[int]],
    delay: Callable[[Address], float] = lambda _: 0.0,
    cost: Callable[[int, Point], float] = lambda *_: 0.0,
) -> tuple[dict[int, ToyMachine], dict[int, Tally]]:
    """Run one step of ``programs`` on a virtual cluster; machines and tallies by worker."""
    cluster = VirtualCluster(sorted(programs), delay, cost)
    wires = {w: Wires(cluster.channel(w), cluster.workers, True, True, CPU) for w in programs}
    machines = {w: ToyMachine(program, 0, wires[w], held[w]) for w, program in programs.items()}
    steps = {worker: interpret(programs[worker], machine) for worker, machine in machines.items()}
    return machines, cluster.run(steps)


def square(gradients: Gradients) -> float:
    """Sum of squares of a layer's gradients."""
    return float(sum(torch.dot(gradient, gradient).item() for gradient in gradients))


@dataclass(frozen=True)
class Expected:
    """What a step must end with: reduced gradients by layer, ties added, mean loss and norm."""

    reduced: list[Gradients]
    loss: float
    norm: float


@cache
def expected(num_layers: int, num_micro_batches: int, ties: tuple[Pair, ...] = ()) -> Expected:
    """The result of a step on any layout: slow, and written without the engine."""
    leaves: dict[Pair, Gradients] = {}
    losses = []
    for micro_batch in range(num_micro_batches):
        values = [micro_batch]
        for layer in range(num_layers):
            values.append(mix(values[-1], layer, micro_batch))
        losses.append(float(values.pop()))
        gradient = 1
        for layer in reversed(range(num_layers)):
            leaves[layer, micro_batch] = contribution(layer, values[layer], gradient)
            gradient = mix(gradient + values[layer], layer, micro_batch)

    def tree(layer: int, ids: list[int]) -> Gradients:
        if len(ids) == 1:
            return leaves[layer, ids[0]]
        left = 1
        while left * 2 < len(ids):
            left *= 2
        pairs = zip(tree(layer, ids[:left]), tree(layer, ids[left:]), strict=True)
        return [a + b for a, b in pairs]

    reduced = [tree(layer, list(range(num_micro_batches))) for layer in range(num_layers)]
    for lower, upper in sorted(ties):
        total = reduced[lower][TIED] + reduced[upper][TIED]
        reduced[lower] = [reduced[lower][0], total]
        reduced[upper] = [reduced[upper][0], total]
    count = sum(map(count_of, range(num_micro_batches)))
    norm = math.sqrt(sum(map(square, reduced))) / count
    return Expected(reduced, sum(losses) / count, norm)


def faults(
    programs: Mapping[int, Program],
    machines: Mapping[int, ToyMachine],
    tallies: Mapping[int, Tally],
    held: Mapping[int, Sequence[int]],
    ties: tuple[Pair, ...] = (),
) -> list[str]:
    """Everything that is wrong with what a run left behind."""
    program = next(iter(programs.values()))
    layers, micro_batches = program.num_layers, program.num_micro_batches
    wanted = expected(layers, micro_batches, ties)
    found: list[str] = []
    ledger: Counter[tuple[Op, int, int]] = Counter()
    for machine in machines.values():
        ledger.update(machine.ledger)
    everything = {
        (op, layer, mb)
        for op in (Op.F, Op.I, Op.W)
        for layer in range(layers)
        for mb in range(micro_batches)
    }
    if ledger.keys() != everything or set(ledger.values()) != {1}:
        found.append("a micro-batch was lost or repeated")
    for worker, machine in machines.items():
        if sorted(machine.stepped) != sorted(held[worker]):
            found.append(f"worker {worker} stepped {machine.stepped}, not {held[worker]}")
        for layer in held[worker]:
            mine = machine.gradients(layer) if layer in machine.reduced else []
            if len(mine) != len(SHAPES) or not all(map(torch.equal, mine, wanted.reduced[layer])):
                found.append(f"worker {worker} has another gradient of layer {layer}")
    if len(set(tallies.values())) != 1:
        found.append("workers disagree on the tally")
    tally = next(iter(tallies.values()))
    if not tally.committed or (tally.loss, tally.norm) != (wanted.loss, wanted.norm):
        found.append(f"the tally {tally} is wrong")
    return found
