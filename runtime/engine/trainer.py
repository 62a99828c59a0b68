"""A worker's engine: builds its layers and runs one step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import torch

from ithaca.planner.program import Program
from ithaca.planner.span import Span
from ithaca.runtime.engine.adamw import OptimizerSettings
from ithaca.runtime.engine.ballot import Tally
from ithaca.runtime.engine.channel import Channel
from ithaca.runtime.engine.held import HeldLayer, Model
from ithaca.runtime.engine.interpreter import interpret
from ithaca.runtime.engine.layer_machine import Holdings, LayerMachine
from ithaca.runtime.engine.machine import Wires
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.engine.steps import Steps
from ithaca.runtime.workload import Workload


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine needs to know of a job.

    Attributes:
        seed: of weights and dropout.
        exact: sum gradients in the fixed tree.
        dtype: what layers compute in.
        skip_not_finite: leave out the update of a step with a NaN.
        optimizer: AdamW and its schedule.
    """

    seed: int
    exact: bool
    dtype: torch.dtype
    skip_not_finite: bool
    optimizer: OptimizerSettings


class Trainer:
    """The layers, optimizer and step count of one worker in one generation."""

    def __init__(
        self,
        workload: Workload,
        settings: EngineSettings,
        span: Span,
        device: torch.device | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        model = Model(tuple(workload.layers()), tuple(workload.ties()))
        randomness = Randomness(settings.seed, device)
        self.settings = settings
        self.step = 0
        self.holdings = Holdings(
            workload=workload,
            model=model,
            layers={
                index: HeldLayer(
                    index, model, randomness, settings.dtype, device, settings.optimizer
                )
                for index in span
            },
            settings=settings.optimizer,
            skip_not_finite=settings.skip_not_finite,
            randomness=randomness,
            device=device,
            dtype=settings.dtype,
        )
        self._wires: Wires | None = None
        self._draining = False

    def connect(self, channel: Channel) -> None:
        """Use ``channel`` from now on: a new generation."""
        self._wires = Wires(
            channel,
            self.settings.exact,
            self.holdings.workload.fixed_shapes,
            self.holdings.device,
        )

    def drain(self) -> None:
        """Ask everybody, with the next ballot, to stop behind the step."""
        self._draining = True

    def train_step(self, program: Program) -> Steps[Tally]:
        """Run one training step; afterwards ``step`` counts it as committed."""
        machine = self._machine(program, training=True)
        machine.ballot.drain = self._draining
        tally = yield from interpret(program, machine)
        self.step += 1
        return tally

    def validate(self, program: Program) -> Steps[Tally]:
        """Run the forward-only ``program``; nothing changes."""
        return (yield from interpret(program, self._machine(program, training=False)))

    def _machine(self, program: Program, training: bool) -> LayerMachine:
        if self._wires is None:
            raise RuntimeError("the trainer has no channel yet")
        return LayerMachine(program, self.step, self._wires, self.holdings, training)

    def forget_times(self) -> None:
        """Leave the steps so far out of :meth:`times`: they were a warm-up."""
        self.holdings.meter.clear()

    def times(self) -> dict[str, dict[str, float]]:
        """Median seconds of each op on each held layer, by layer name and op."""
        found: dict[str, dict[str, float]] = {}
        for (op, layer), seconds in self.holdings.meter.items():
            found.setdefault(self.holdings.layers[layer].name, {})[op.value] = median(seconds)
        return found

    def hashes(self) -> Mapping[str, str]:
        """A hash of the state of every held layer, by name."""
        return {layer.name: layer.hash() for layer in self.holdings.layers.values()}
