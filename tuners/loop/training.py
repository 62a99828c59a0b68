"""One trial's training in this process: the runtime's engine on a single worker.

The layers, sums, random numbers and steps are those of ``ithaca run``, so the state after a step is
the one of a run of the same job on any layout.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel
from torch import Tensor

from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.span import Span
from ithaca.runtime.config.job import Job
from ithaca.runtime.config.plugin import find_workload
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.engine.virtual import VirtualCluster
from ithaca.runtime.worker import engine_settings
from ithaca.tuners.loop.state import Snapshot, view


class TrialTraining:
    """The layers of a job, stepped one step at a time.

    Args:
        trial: number of the trial.
        job: with one pipeline of one stage.
        options: of its workload.

    Raises:
        ValueError: the workload refuses its options.
    """

    def __init__(self, trial: int, job: Job, options: BaseModel) -> None:
        micro_batches = job.layout.micro_batches
        workload = find_workload(job.workload.use)(
            options, seed=job.seed, micro_batches=micro_batches
        )
        layers = len(workload.layers())
        plan = Plan(
            (Pipeline((Stage(Span(0, layers), 0),), tuple(range(micro_batches))),),
            job.layout.schedule,
        )
        self.trial = trial
        self._scale = workload.metric.scale
        self._trainer = Trainer(workload, engine_settings(job), range(layers))
        # One worker exchanges votes with nobody; the in-memory channel serves it in this thread.
        self._cluster = VirtualCluster((0,))
        self._trainer.connect(self._cluster.channel(0))
        self._program = programs(plan, ties=self._trainer.holdings.model.pairs())[0]
        self._validation = validation_programs(plan, job.validation.batches)[0]

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self._trainer.step

    def train(self) -> float:
        """One step; its loss in the metric's unit.

        Raises:
            NotFinite: a NaN or an infinity came up, and the job does not say to skip such steps.
        """
        tally = self._cluster.run({0: self._trainer.train_step(self._program)})[0]
        return tally.loss * self._scale

    def validate(self) -> float:
        """The loss on held-out data in the metric's unit."""
        tally = self._cluster.run({0: self._trainer.validate(self._validation)})[0]
        return tally.loss * self._scale

    def take(self, state: Snapshot) -> None:
        """Go on from a state, whose memory must be writable; it is not changed."""
        tensors = state.tensors()
        for layer in self._trainer.holdings.layers.values():
            layer.load(tensors[layer.name])
        self._trainer.step = state.step

    def give(self) -> Snapshot:
        """A copy of the state, while training goes on."""
        return self.leave().copy()

    def leave(self) -> Snapshot:
        """The state itself: this training must not go on."""
        return view(self.trial, self.step, self._states())

    def _states(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {layer.name: layer.state() for layer in self._trainer.holdings.layers.values()}


def one_thread(threads: int) -> None:
    """Use so many intra-op threads: kernels change bits with their number."""
    torch.set_num_threads(threads)
