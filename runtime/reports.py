"""What a worker says of itself: where it is, and what every step brought.

It is told everything by the engine's thread (:class:`~ithaca.runtime.training.Reporter`), and tells
the controller through the heart. It also keeps the copies that checkpoints are written from, since
these are made between two steps, before anybody hears of the step.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from ithaca.planner.plan import Plan
from ithaca.recovery.blame import DONE, WAIT
from ithaca.recovery.orders import Orders
from ithaca.recovery.tally import Tally
from ithaca.runtime.checkpoint.state import Staged, stage
from ithaca.runtime.config.job import Job
from ithaca.runtime.control.heartbeat import Heart, Position
from ithaca.runtime.engine.drive import Row
from ithaca.runtime.engine.steps import Point
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.events import (
    Event,
    LayersHashed,
    LayersTimed,
    Missed,
    StateMoved,
    StepDone,
    Timeline,
    Validated,
)
from ithaca.runtime.faults.injector import Injector
from ithaca.runtime.memory import WorkerMemory
from ithaca.runtime.orders import Deployment
from ithaca.runtime.writers import writer_of
from ithaca.swap import allocator

_WARM_UP, _TIMED = 3, 8
"""Steps before layers are timed, and steps that are."""
_FORGET = 0.9
"""How slowly the longest time that an action took is forgotten."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A position: waiting for a message in ``point``."""

    point: object

    def __str__(self) -> str:
        return f"{WAIT}{self.point}"


class Reports:
    """The reports of one worker."""

    def __init__(
        self,
        job: Job,
        worker: int,
        heart: Heart,
        position: Position,
        injector: Injector,
        memory: WorkerMemory | None = None,
    ) -> None:
        self._memory = memory
        self._job = job
        self._worker = worker
        self._heart = heart
        self._position = position
        self._injector = injector
        self._trainer: Trainer | None = None
        self._plan: Plan | None = None
        self._done = 0
        self._seconds = 0.0
        self._began = 0.0
        self._longest: dict[object, float] = {}
        self._staging = threading.Condition()
        self._staged: Mapping[str, Staged] = {}
        self._staged_step = -1
        self._last = False
        self._hashed_step = 0

    def tell(self, event: Event) -> None:
        """Send an event to the controller."""
        self._heart.report(event.to_json())

    # -- the engine's thread

    def at(self, step: int, moment: str, point: Point | str) -> None:
        """Note a named point; a drill may strike here."""
        now, key = time.monotonic(), _sort_of(point)
        if moment == "before":
            generation = self._position.generation  # entered before there is a plan of it
            self._position.enter(generation, step, point, self._longest.get(key, 0.0))
            self._began = now
        else:
            seconds = now - self._began
            self._longest[key] = max(self._longest.get(key, 0.0) * _FORGET, seconds)
        self._injector.at(step, moment, point)

    def waits(self, step: int, point: Point | str, begins: bool) -> None:
        """Note that a message is waited for in ``point``, or has come: nobody blames who waits."""
        generation = self._position.generation
        if begins:
            self._position.enter(generation, step, Waiting(point))
        else:
            expected_s = self._longest.get(_sort_of(point), 0.0)
            self._position.enter(generation, step, point, expected_s)
            self._began = time.monotonic()

    def entered(self, deployment: Deployment, trainer: Trainer) -> None:
        """A generation begins: tell its first step again, in case who spoke before is gone."""
        self._trainer, self._plan = trainer, deployment.orders.plan
        if deployment.orders.rest is not None:
            self._injector.at(trainer.step, "before", "redo")
        if trainer.step > 0 and self._saves(trainer.step):
            # Whoever was to write it may be gone: the copies follow the new plan.
            self._stage(trainer)
        if self._speaks and trainer.tally is not None and trainer.generation > 0:
            self.tell(self._step_done(trainer.tally, self._seconds))
        if trainer.step > self._hashed_step:
            # It was rolled forward over this step, so nobody has told its hashes.
            self._hash()

    def stepped(self, tally: Tally, began: float, seconds: float, rows: list[Row]) -> None:
        """A step was committed: copy what a checkpoint needs, then tell."""
        trainer, job = self._current()
        self._done += 1
        self._seconds = seconds
        if self._done == _WARM_UP:
            trainer.forget_times()
        timed = _WARM_UP <= self._done < _WARM_UP + _TIMED
        trainer.probe(self._done if timed else None)
        # Copied before anybody hears of the step: whoever hears of it may ask for the copy.
        # A copy of the last step cannot be made again: it is kept, as it may be asked for twice.
        self._last = tally.drain or trainer.step == job.steps
        if tally.drain or self._saves(trainer.step):
            self._stage(trainer)
        if self._speaks:
            self.tell(self._step_done(tally, seconds))
        if (trainer.step - 1) % job.report.timeline_every == 0:
            self.tell(self._timeline(began, rows))
        if self._done == _WARM_UP + _TIMED:
            self.tell(self._layers_timed())
        if self._done == _WARM_UP or tally.drain or trainer.step == job.steps:
            self._tell_memory()
        self._hash()

    def moved(self, orders: Orders, seconds: float) -> None:
        """The states that move on entering a generation have moved."""
        got = [move for moves in orders.moves for move in moves if move.target == self._worker]
        if got:
            self.tell(
                StateMoved(
                    time_s=time.time(),
                    worker=self._worker,
                    generation=orders.plan.generation,
                    layers=sorted({move.layer for move in got}),
                    size=sum(move.size for move in got),
                    seconds=seconds,
                )
            )

    def validated(self, tally: Tally, seconds: float) -> None:
        """A validation ended."""
        if self._speaks:
            trainer, _ = self._current()
            self.tell(
                Validated(
                    time_s=time.time(),
                    step=trainer.step,
                    loss=tally.loss,
                    count=tally.count,
                    seconds=seconds,
                )
            )

    def missed(self, missed: Missed) -> None:
        """A message did not come."""
        self.tell(missed)

    def rests(self) -> None:
        """Nobody is to wonder why it does nothing."""
        generation, step, *_ = self._position.read()
        self._position.enter(generation, step, DONE)

    # -- checkpoints, from another thread

    def staged(self, step: int, bound_s: float) -> Mapping[str, Staged] | None:
        """The copies of ``step``, once; None if there are none within ``bound_s`` seconds."""
        with self._staging:
            self._staging.wait_for(lambda: self._staged_step >= step, bound_s)
            if self._staged_step != step:
                return None
            staged = self._staged
            if not self._last:
                self._staged, self._staged_step = {}, -1
            return staged

    def _saves(self, step: int) -> bool:
        """Whether a checkpoint stands behind ``step`` committed steps."""
        every = self._job.checkpoint.every
        return step == self._job.steps or (every > 0 and step % every == 0)

    def _stage(self, trainer: Trainer) -> None:
        """Copy the layers that this worker writes; an older copy not asked for is dropped."""
        assert self._plan is not None
        with allocator.exempt() if self._memory else nullcontext():
            copies = {
                layer.name: stage(layer.state())
                for layer in trainer.holdings.layers.values()
                if writer_of(self._plan, layer.index) == self._worker
            }
        with self._staging:
            self._staged, self._staged_step = copies, trainer.step
            self._staging.notify_all()

    # -- events

    def _tell_memory(self) -> None:
        trainer, _ = self._current()
        used = self._memory.used(self._worker, trainer.step) if self._memory else None
        if used is not None:
            self.tell(used)

    @property
    def _speaks(self) -> bool:
        """Whether this worker tells what all know."""
        assert self._plan is not None
        return self._worker == min(self._plan.workers)

    def _current(self) -> tuple[Trainer, Job]:
        assert self._trainer is not None, "no generation has begun"
        return self._trainer, self._job

    def _step_done(self, tally: Tally, seconds: float) -> StepDone:
        trainer, _ = self._current()
        return StepDone(
            time_s=time.time(),
            step=trainer.step,
            generation=trainer.generation,
            loss=tally.loss,
            auxiliary=tally.auxiliary,
            norm=tally.norm,
            lr=trainer.settings.optimizer.rate(trainer.step - 1),
            count=tally.count,
            samples=tally.samples,
            seconds=seconds,
            skipped=not tally.finite,
            micro_batches=tally.micro_batches,
        )

    def _timeline(self, began_s: float, rows: list[Row]) -> Timeline:
        trainer, _ = self._current()
        return Timeline(
            time_s=time.time(),
            step=trainer.step,
            worker=self._worker,
            began_s=began_s,
            rows=[(what, round(start, 6), round(end, 6)) for what, start, end in rows],
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def _layers_timed(self) -> LayersTimed:
        trainer, _ = self._current()
        costs = self._memory.costs() if self._memory else ()
        return LayersTimed(
            time_s=time.time(),
            step=trainer.step,
            worker=self._worker,
            times=trainer.times(),
            memory_costs=[(row.share, row.slowdown) for row in costs],
        )

    def _hash(self) -> None:
        """Tell the hashes of the held layers if they are due behind this step."""
        trainer, job = self._current()
        self._hashed_step = trainer.step
        every = job.report.hash_every
        if every and trainer.step % every == 0:
            self.tell(self._layers_hashed())

    def _layers_hashed(self) -> LayersHashed:
        trainer, _ = self._current()
        return LayersHashed(
            time_s=time.time(),
            step=trainer.step,
            worker=self._worker,
            hashes=dict(trainer.hashes()),
            generation=self._position.generation,
        )


def _sort_of(point: Point | str) -> object:
    """What a point has in common with those that take as long."""
    return type(point), getattr(point, "op", None), getattr(point, "layers", None)
