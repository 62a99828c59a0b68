"""A worker's training: steps, and standing still between generations.

One thread runs the engine. It enters a generation when it is deployed into one, and leaves it when
a step agreed on a pause, when a message does not come, or when it is told to stand; then it stands
still and waits for the next deployment. Other threads may ask it to stand, and read what it holds
while it does.

Invariant: whoever has seen all ballots of a step say yes steps all its layers before it stands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch

from ithaca.recovery.orders import Orders
from ithaca.recovery.standing import Standing
from ithaca.recovery.tally import Tally
from ithaca.runtime.config.job import Job
from ithaca.runtime.engine.channel import Channel
from ithaca.runtime.engine.drive import ChannelFailed, Interrupted, Row, drive
from ithaca.runtime.engine.steps import Point, Steps
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.engine.wake import Graveyard
from ithaca.runtime.events import Missed
from ithaca.runtime.memory import WorkerMemory
from ithaca.runtime.orders import Deployment, Outcome, validation_due

T = TypeVar("T")


class Connection(Channel, Protocol):
    """A channel between processes."""

    def wake(self) -> None:
        """Fail every wait on it, running and to come; from any thread."""

    def abandon(self, graveyard: Graveyard) -> None:
        """Leave it, with whatever may still be on its way."""


class Expelled(RuntimeError):
    """This worker is no longer part of the run."""


class Reporter(Protocol):
    """What hears of every step; the worker's side of the control plane."""

    def at(self, step: int, moment: str, point: Point | str) -> None:
        """The engine is before or after a named point; ``step`` steps are committed."""

    def waits(self, step: int, point: Point | str, begins: bool) -> None:
        """The engine waits for a message in ``point``, or does so no longer."""

    def entered(self, deployment: Deployment, trainer: Trainer) -> None:
        """A generation begins."""

    def stepped(self, tally: Tally, began: float, seconds: float, rows: list[Row]) -> None:
        """A step was committed."""

    def moved(self, orders: Orders, seconds: float) -> None:
        """The states that move on entering a generation have moved."""

    def validated(self, tally: Tally, seconds: float) -> None:
        """A validation ended."""

    def missed(self, missed: Missed) -> None:
        """A message did not come."""

    def rests(self) -> None:
        """It stands still until it is told to go on."""


@dataclass
class Training:
    """The engine thread of one worker, from its first generation to the end of the job.

    Args:
        job: gives the number of steps and where validations stand.
        worker: this one.
        trainer: its layers.
        connect: makes the channel of a generation.
        leave: takes the channel of a generation that is over.
        restore: takes the trainer back to the checkpoint of a deployment.
        reporter: hears of everything.
        idle_s: bound of standing still without orders.
        memory: keeps the worker under its budget; None without one.
    """

    job: Job
    worker: int
    trainer: Trainer
    connect: Callable[[Deployment], Connection]
    leave: Callable[[Connection], None]
    restore: Callable[[Deployment], None]
    reporter: Reporter
    idle_s: float
    memory: WorkerMemory | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _fence: int = -1
    _standing_still: bool = True
    _deployment: Deployment | None = None
    _channel: Connection | None = None
    _met: int = -1
    _left: int = -1
    _expelled: str = ""
    _skipped: int = 0
    _over: bool = False

    # -- other threads

    def deploy(self, deployment: Deployment) -> bool:
        """Give the next generation; False if a later one has been announced already."""
        generation = deployment.orders.plan.generation
        with self._changed:
            if generation < self._fence:
                return False
            self._deployment, self._fence = deployment, generation
            self._changed.notify_all()
            return True

    def wait_met(self, generation: int, bound_s: float) -> None:
        """Return when this worker has met the others of ``generation``.

        Raises:
            ChannelFailed: they did not meet, or the generation is over already.
            TimeoutError: not within ``bound_s`` seconds.
        """
        with self._changed:
            over = self._changed.wait_for(
                lambda: max(self._met, self._left) >= generation or self._expelled, bound_s
            )
            if self._met < generation:
                if over:
                    raise ChannelFailed("meet", f"generation {generation} did not come together")
                raise TimeoutError(f"generation {generation} did not meet within {bound_s:g} s")

    def fence(self, generation: int) -> None:
        """Stand still as soon as possible: every generation before this one is over."""
        with self._changed:
            if generation <= self._fence:
                return
            self._fence = generation
            self._deployment = None
            channel = self._channel
        if channel is not None:
            channel.wake()

    def stand(self, generation: int, bound_s: float) -> Standing:
        """Stand still; what is held.

        Raises:
            Expelled: this worker was expelled meanwhile.
            TimeoutError: the engine did not come to a named point within ``bound_s`` seconds.
        """
        self.fence(generation)
        with self._changed:
            self._await_still(bound_s)
            return self.trainer.standing(self.worker)

    def wait_still(self, bound_s: float) -> int:
        """Return when the engine stands still by itself, behind a step or at the end; the step.

        Raises:
            Expelled: this worker was expelled meanwhile.
            TimeoutError: not within ``bound_s`` seconds.
        """
        with self._changed:
            self._await_still(bound_s)
            return self.trainer.step

    def _await_still(self, bound_s: float) -> None:
        """Wait until the engine stands still; the lock is held."""
        self._changed.wait_for(lambda: self._standing_still or self._expelled, bound_s)
        if self._standing_still:
            return
        if self._expelled:
            raise Expelled(self._expelled)
        raise TimeoutError(f"worker {self.worker} did not stand still in {bound_s:g} s")

    @property
    def over(self) -> bool:
        """Whether the engine's thread has come to an end, whatever that was."""
        with self._changed:
            return self._over

    def expel(self, reason: str) -> None:
        """End: this worker is no longer part of the run."""
        with self._changed:
            self._expelled = reason
            channel = self._channel
            self._changed.notify_all()
        if channel is not None:
            channel.wake()

    # -- the engine's thread

    def run(self) -> Outcome:
        """Generation after generation, until the job ends or a drain was agreed on.

        Raises:
            Expelled: the run goes on without this worker.
            TimeoutError: it stood still without orders for too long.
        """
        with self._changed:
            self._over = False
        try:
            return self._generations()
        except RuntimeError as error:
            # The split backward wraps whatever it meets.
            cause = error if isinstance(error, torch.OutOfMemoryError) else error.__cause__
            if self.memory is None or not isinstance(cause, torch.OutOfMemoryError):
                raise
            raise self.memory.refused(cause) from error
        finally:
            if self.memory is not None:
                self.memory.suspend()
            with self._changed:
                self._standing_still = self._over = True
                self._changed.notify_all()

    def _generations(self) -> Outcome:
        while True:
            deployment = self._await_deployment()
            try:
                outcome = self._generation(deployment)
            except (Interrupted, ChannelFailed) as error:
                self._note(deployment, error)
                outcome = None
            finally:
                self._leave(deployment.orders.plan.generation)
            self.reporter.rests()
            if outcome is not None:
                return outcome

    def _await_deployment(self) -> Deployment:
        with self._changed:
            self._standing_still = True
            self._changed.notify_all()
            ready = self._changed.wait_for(
                lambda: self._deployment is not None or self._expelled, self.idle_s
            )
            if self._expelled:
                raise Expelled(self._expelled)
            if not ready:
                raise TimeoutError(
                    f"no orders came for {self.idle_s:g} s: the controller is lost or out of reach"
                )
            assert self._deployment is not None
            deployment, self._deployment = self._deployment, None
            self._standing_still = False
            return deployment

    def _leave(self, generation: int) -> None:
        with self._changed:
            channel, self._channel = self._channel, None
            self._left = generation
            self._changed.notify_all()
        if channel is not None:
            self.leave(channel)

    def _note(self, deployment: Deployment, error: Interrupted | ChannelFailed) -> None:
        """Tell the controller what was missed, unless it was the controller who woke us."""
        if isinstance(error, Interrupted) or self._stopped(deployment):
            return
        self.reporter.missed(
            Missed(
                time_s=time.time(),
                worker=self.worker,
                generation=deployment.orders.plan.generation,
                step=self.trainer.step,
                action=error.action,
                reason=error.reason,
                corrupt=error.corrupt,
            )
        )

    def is_over(self, generation: int) -> bool:
        """Whether a later generation was announced, or this worker was expelled."""
        return self._fence > generation or bool(self._expelled)

    def _stopped(self, deployment: Deployment) -> bool:
        return self.is_over(deployment.orders.plan.generation)

    def _generation(self, deployment: Deployment) -> Outcome | None:
        """One generation; None if it ended before the job did."""
        trainer, orders = self.trainer, deployment.orders
        if self.memory is not None and (orders.moves or deployment.restore is not None):
            self.memory.suspend()
        if deployment.restore is not None:
            self.restore(deployment)
        channel = self.connect(deployment)
        with self._changed:
            self._channel = channel
            self._met = orders.plan.generation
            self._changed.notify_all()
        if self._stopped(deployment):
            raise Interrupted("another generation was announced while this one met")
        trainer.join(orders, self.worker, channel)
        began = time.perf_counter()
        self._drive(deployment, trainer.enter(orders), [])
        if orders.moves:
            self.reporter.moved(orders, time.perf_counter() - began)
        trainer.validated = trainer.step - 1 if deployment.validate else trainer.step
        if orders.program is None:
            return None  # it gave its state away; the others go on without it
        self.reporter.entered(deployment, trainer)
        rest = orders.rest
        while True:
            if validation_due(self.job, trainer.step) and trainer.validated < trainer.step:
                self._validate(deployment)
            if trainer.step >= self.job.steps:
                return Outcome(trainer.step, False, self._skipped)
            tally = self._step(deployment, rest is not None)
            rest = None
            if tally.drain:
                if validation_due(self.job, trainer.step):
                    self._validate(deployment)
                return Outcome(trainer.step, True, self._skipped)
            if tally.pause and trainer.step < self.job.steps:
                return None

    def _step(self, deployment: Deployment, rest: bool) -> Tally:
        orders, rows = deployment.orders, list[Row]()
        program = orders.rest if rest else orders.program
        assert program is not None, "only who is in the plan steps"
        if self.memory is not None:
            self.memory.begin_step(program, rest=rest)
        began, wall = time.perf_counter(), time.time()
        tally = self._drive(deployment, self.trainer.train_step(program, rest), rows)
        if self.memory is not None:
            self.memory.end_step()
        self._skipped += not tally.finite
        self.reporter.stepped(tally, wall, time.perf_counter() - began, rows)
        return tally

    def _validate(self, deployment: Deployment) -> None:
        if deployment.validation is None:
            return
        began = time.perf_counter()
        tally = self._drive(deployment, self.trainer.validate(deployment.validation), [])
        if self.memory is not None:
            self.memory.end_step()
        self.reporter.validated(tally, time.perf_counter() - began)

    def _drive(self, deployment: Deployment, steps: Steps[T], rows: list[Row]) -> T:
        trainer, reporter = self.trainer, self.reporter
        return drive(
            steps,
            lambda point: reporter.at(trainer.step, "before", point),
            time.perf_counter,
            rows,
            leave=lambda point: reporter.at(trainer.step, "after", point),
            stop=lambda: self._stopped(deployment),
            wait=lambda point, begins: reporter.waits(trainer.step, point, begins),
        )
