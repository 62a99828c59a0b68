"""Runs a whole small job in one thread, on the in-memory channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.program import Program
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.span import Span
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.steps import Point, Steps
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.engine.virtual import Address, VirtualCluster
from ithaca.runtime.workload import Workload

ADAMW = OptimizerSettings(1e-2, (0.9, 0.95), 1e-8, 0.1, 0.5, "cosine", 2, 0.1, 20)
EXACT = EngineSettings(7, True, torch.float32, False, ADAMW)
FAST = replace(EXACT, exact=False)
BF16 = replace(EXACT, dtype=torch.bfloat16)


def layout(
    num_layers: int,
    stages: tuple[int, ...],
    num_micro_batches: int = 8,
    schedule: Schedule = Schedule.ONE_F_ONE_B,
) -> Plan:
    """One pipeline per entry of ``stages``, with layers and micro-batches split evenly."""
    pipelines, worker = [], 0
    for number, count in enumerate(stages):
        borders = [num_layers * i // count for i in range(count + 1)]
        parts = []
        for first, last in pairwise(borders):
            parts.append(Stage(Span(first, last), worker))
            worker += 1
        low = num_micro_batches * number // len(stages)
        high = num_micro_batches * (number + 1) // len(stages)
        pipelines.append(Pipeline(tuple(parts), tuple(range(low, high))))
    return Plan(tuple(pipelines), schedule)


@dataclass(frozen=True)
class Record:
    """What one step left behind: hashes by layer, loss, norm; equal means equal bits."""

    hashes: tuple[tuple[str, str], ...]
    loss: float
    auxiliary: float
    norm: float
    validation: float


class VirtualJob:
    """Trainers for a plan, stepped together."""

    def __init__(
        self,
        workload: Workload,
        plan: Plan,
        settings: EngineSettings = EXACT,
        delay: Callable[[Address], float] = lambda _: 0.0,
        cost: Callable[[int, Point], float] = lambda *_: 0.0,
    ) -> None:
        self.trainers = {
            worker: Trainer(workload, settings, plan.held(worker)) for worker in plan.workers
        }
        self.cluster = VirtualCluster(plan.workers, delay, cost)
        for worker, trainer in self.trainers.items():
            trainer.connect(self.cluster.channel(worker))
        ties = next(iter(self.trainers.values())).holdings.model.pairs()
        self.programs = programs(plan, ties=ties)
        self.validation = validation_programs(plan, 3)

    def run(self, steps: int) -> list[Record]:
        """The records of the next ``steps`` steps."""
        return [self.step() for _ in range(steps)]

    def train(self) -> Tally:
        """One step without a validation."""
        return self._all(Trainer.train_step, self.programs)

    def _all(
        self, run: Callable[[Trainer, Program], Steps[Tally]], source: dict[int, Program]
    ) -> Tally:
        tallies = self.cluster.run(
            {worker: run(trainer, source[worker]) for worker, trainer in self.trainers.items()}
        )
        assert len(set(map(repr, tallies.values()))) == 1, "workers disagree on the tally"
        return next(iter(tallies.values()))

    def step(self) -> Record:
        """One step and a validation; replicas must agree."""
        tally = self.train()
        held_out = self._all(Trainer.validate, self.validation)
        return Record(self.hashes(), tally.loss, tally.auxiliary, tally.norm, held_out.loss)

    def hashes(self) -> tuple[tuple[str, str], ...]:
        """Hash of every layer by name, in order; replicas must agree."""
        hashes: dict[str, str] = {}
        for trainer in self.trainers.values():
            for name, value in trainer.hashes().items():
                assert hashes.setdefault(name, value) == value, f"replicas of {name} differ"
        return tuple(sorted(hashes.items()))

    def states(self) -> dict[str, dict[str, torch.Tensor]]:
        """Copies of all layers' states by name, for a resume elsewhere."""
        return {
            layer.name: {key: value.clone() for key, value in layer.state().items()}
            for trainer in self.trainers.values()
            for layer in trainer.holdings.layers.values()
        }

    def restore(self, states: dict[str, dict[str, torch.Tensor]], step: int) -> None:
        """Go on from ``states`` after ``step`` steps."""
        for trainer in self.trainers.values():
            trainer.step = step
            for layer in trainer.holdings.layers.values():
                layer.load(states[layer.name])
