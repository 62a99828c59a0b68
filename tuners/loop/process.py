"""A process that trains trials, one at a time, and holds states for others.

The class knows nothing of the cluster; :mod:`ithaca.tuners.loop.trial_actor` does. It goes on
whether or not the coordinator lives: what it has done waits until it is acknowledged.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

from pydantic import BaseModel

from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.config.job import Job
from ithaca.runtime.engine.layer_machine import NotFinite
from ithaca.tuners.isolation import Ended
from ithaca.tuners.loop.files import StateFiles
from ithaca.tuners.loop.orders import Look, Outcome, Run
from ithaca.tuners.loop.state import Snapshot
from ithaca.tuners.loop.training import TrialTraining, one_thread
from ithaca.tuners.trial import Failure

Send = Callable[[int, Snapshot], None]
"""Sends a state to a process; returns when that one holds it. Raises ``OSError`` if it cannot."""

_TRIES, _TRY_S = 300, 1.0
"""How often, and how far apart, another process is tried for a state; a new one takes seconds."""
_LOOK_S = 0.2
"""Longest time until a look is answered where nothing ended."""
_LAST = 5
"""Steps whose mean loss is the value where there is no validation."""


class TimeIsUpError(Exception):
    """A run has no time for another step."""


class MissedError(Exception):
    """A run came to its end without reaching its target."""


class TrialProcess:
    """One process of a search.

    Args:
        number: of the process.
        threads: intra-op threads.
        send: gives a state to another process.
        files: where states are written too, for when all processes are lost; None for nowhere.
    """

    def __init__(
        self, number: int, threads: int, send: Send, files: StateFiles | None = None
    ) -> None:
        self.number = number
        self._files = files
        self._threads = threads
        self._send = send
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._shelf: dict[int, Snapshot] = {}
        self._run: Run | None = None
        self._outcome: Outcome | None = None
        self._step = 0
        self._partner = -1

    def prepare(self, job: Job, options: BaseModel) -> Look:
        """Load what a first trial would wait for, with a step of a job like its own.

        Whether the job can be trained is not told here: a trial that cannot tells it.
        """
        one_thread(self._threads)
        training = TrialTraining(-1, job, options)
        with suppress(NotFinite):
            training.train()
        training.validate()
        return self.look(wait_s=0.0)

    # -- what the coordinator calls

    def begin(self, run: Run, state: Snapshot | None) -> bool:
        """Train a trial; False if this process is busy. ``state`` if it is not on the shelf."""
        with self._lock:
            if self._run is not None or self._outcome is not None:
                same = self._run is not None and self._run.trial == run.trial
                return same and self._run is not None and self._run.run == run.run
            kept = self._shelf.get(run.trial)
            if state is not None:
                state = state.copy()
            elif kept is not None and kept.step == run.first:
                state = kept
            elif run.first:
                state = self._files.read(run.trial, run.first) if self._files else None
                if state is None:
                    return False
            self._run, self._step, self._partner = run, run.first, run.partner
        threading.Thread(
            target=self._work, args=(run, state), name=f"trial {run.trial}", daemon=True
        ).start()
        return True

    def look(self, acknowledged: tuple[int, int] | None = None, wait_s: float = _LOOK_S) -> Look:
        """How it is, as soon as a run ends or after ``wait_s`` seconds.

        ``acknowledged`` is the trial and run whose outcome was written down.
        """
        with self._lock:
            done = self._outcome
            if done is not None and (done.trial, done.run) == acknowledged:
                self._outcome = None
            elif self._outcome is None and wait_s:
                self._changed.wait_for(lambda: self._outcome is not None, wait_s)
            return Look(
                trial=self._run.trial if self._run else None,
                run=self._run.run if self._run else 0,
                step=self._step,
                outcome=self._outcome,
                kept={trial: state.step for trial, state in self._shelf.items()},
                pid=os.getpid(),
            )

    def keep(self, state: Snapshot) -> int:
        """Hold a state that another process trains, or the newer one; its step."""
        with self._lock:
            held = self._shelf.get(state.trial)
        if held is None or held.step < state.step:
            copy = state.copy()
            with self._lock:
                self._shelf[state.trial] = copy
        return state.step

    def give(self, trial: int) -> Snapshot | None:
        """The state of a trial; None if it is not here."""
        with self._lock:
            return self._shelf.get(trial)

    def send(self, trial: int, to: int) -> bool:
        """Let another process hold a trial's state too."""
        state = self.give(trial)
        if state is None:
            return False
        self._send(to, state)
        return True

    def partner(self, number: int) -> None:
        """Send further copies to another process."""
        with self._lock:
            self._partner = number
            self._changed.notify_all()

    def drop(self, trials: tuple[int, ...]) -> None:
        """Give up states that nobody needs any more."""
        with self._lock:
            for trial in trials:
                self._shelf.pop(trial, None)

    # -- the thread that trains

    def _work(self, run: Run, state: Snapshot | None) -> None:
        one_thread(self._threads)
        began = time.monotonic()
        losses: list[float] = []
        try:
            outcome = self._train(run, state, losses, began)
        except ConfigError as error:
            outcome = self._failed(run, losses, began, Failure.ERROR, str(error))
        except NotFinite as error:
            outcome = self._failed(run, losses, began, Failure.NOT_A_NUMBER, str(error))
        except TimeIsUpError as error:
            outcome = self._failed(run, losses, began, Failure.TIME, str(error))
        except Exception as error:
            ended = Ended.failed(error)
            assert ended.failure is not None
            outcome = self._failed(run, losses, began, ended.failure, ended.reason)
        with self._lock:
            self._run, self._outcome = None, outcome
            self._changed.notify_all()

    def _train(
        self, run: Run, state: Snapshot | None, losses: list[float], began: float
    ) -> Outcome:
        loaded = run.job.load()
        training = TrialTraining(run.trial, loaded.job, loaded.workload_config)
        if state is not None:
            training.take(state)
        copies = _Copies(self._send_and_save)
        took: list[float] = []
        copied = time.monotonic()
        try:
            while training.step < run.last and not _reached(run, losses):
                now = time.monotonic()
                self._check_time(run, loaded.job, now - began, took)
                losses.append(training.train())
                self._step = training.step
                took.append(time.monotonic() - now)
                due = time.monotonic() - copied > run.replicate_s and training.step < run.last
                if due and copies.offer(training.give):
                    copied = time.monotonic()
        finally:
            copies.close()
        value = self._value(run, training, losses, began)
        paused = time.monotonic()
        last = training.leave()
        unsaved = self._send_and_save(last)
        with self._lock:
            self._shelf[run.trial] = last
        pause_s = time.monotonic() - paused
        return Outcome(
            run.trial,
            run.run,
            value,
            None,
            "",
            run.first,
            training.step,
            tuple(losses),
            last.hash(),
            time.monotonic() - began,
            pause_s,
            last.nbytes,
            unsaved,
        )

    @staticmethod
    def _value(run: Run, training: TrialTraining, losses: list[float], began: float) -> float:
        """What the run was for."""
        if run.validate:
            return training.validate()
        if run.target is None:
            return sum(losses[-_LAST:]) / len(losses[-_LAST:])
        if not _reached(run, losses):
            raise MissedError(f"a loss of {run.target:g} was not reached in {run.last} steps")
        return run.spent_s + time.monotonic() - began

    def _send_and_save(self, state: Snapshot) -> str:
        """To the partner and to the disk at once; why it is not on the disk.

        The disk is for when everybody is lost: if it cannot be written, the trial goes on.
        """
        errors: list[OSError] = []
        files = self._files
        if files is None:
            self._send_copy(state)
            return ""

        def save() -> None:
            try:
                files.write(state)
            except OSError as error:
                errors.append(error)

        saving = threading.Thread(target=save, name=f"save trial {state.trial}")
        saving.start()
        try:
            self._send_copy(state)
        finally:
            saving.join()
        return str(errors[0]) if errors else ""

    def _send_copy(self, state: Snapshot) -> None:
        """To the partner of the moment; waits for another one where that is gone."""
        refused: OSError | None = None
        for _ in range(_TRIES):
            with self._lock:
                partner = self._partner
            try:
                self._send(partner, state)
                return
            except OSError as error:
                refused = error
            self._await_partner(partner)
        raise OSError(f"no other process took the state of trial {state.trial}: {refused}")

    def _await_partner(self, refused: int) -> None:
        """Wait a while for the coordinator to name another one."""
        with self._lock:
            self._changed.wait_for(lambda: self._partner != refused, _TRY_S)

    def _check_time(self, run: Run, job: Job, elapsed_s: float, took: list[float]) -> None:
        """Raise if there is no time for a step of the usual length."""
        step_s = median(took[-9:]) if took else 0.0
        if run.validate and self._step == run.last - 1:
            # What comes behind the last step: forward passes, about a third of a step's work.
            step_s *= 1 + job.validation.batches / job.layout.micro_batches / 2
        if run.limit_s is not None and elapsed_s + step_s > run.limit_s:
            raise TimeIsUpError(f"its {run.limit_s:.3g} s were used up at step {self._step}")

    def _failed(
        self, run: Run, losses: list[float], began: float, failure: Failure, reason: str
    ) -> Outcome:
        seconds = time.monotonic() - began
        first, step = run.first, self._step
        return Outcome(
            run.trial, run.run, None, failure, reason, first, step, tuple(losses), "", seconds
        )


def _reached(run: Run, losses: list[float]) -> bool:
    """Whether the mean of the last losses is at most the target, if there is one."""
    last = losses[-_LAST:]
    return run.target is not None and len(last) == _LAST and sum(last) / _LAST <= run.target


class _Copies:
    """Sends copies of a state while training goes on; one at a time, the newest."""

    def __init__(self, send: Callable[[Snapshot], object]) -> None:
        self._send = send
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def offer(self, state: Callable[[], Snapshot]) -> bool:
        """Begin to send what ``state`` gives; False if the one before is still on its way."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        self._thread = threading.Thread(target=self._run, args=(state(),), daemon=True)
        self._thread.start()
        return True

    def _run(self, state: Snapshot) -> None:
        try:
            self._send(state)
        except Exception as error:
            self._error = error

    def close(self) -> None:
        """Wait for the one on its way: a newer state must not be overtaken by it."""
        if self._thread is not None:
            self._thread.join()
