"""The recorder: turns what workers report into the run's events, ledger and checkpoints due.

What a worker reports is in the log before the worker is told that it was taken. A controller that
takes over reads the log, so that nothing is counted twice or left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.events import (
    Event,
    LayersHashed,
    LayersTimed,
    Missed,
    StateHashed,
    StateMoved,
    StepDone,
    Warned,
    parse_event,
)
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.measured import Timings, keep
from ithaca.runtime.mission import Mission, plan_chosen


class ReplicasDifferError(RuntimeError):
    """Two holders of a layer have different states (I2 is broken).

    Attributes:
        workers: those that differ from most other holders; empty if some layer has no majority.
        step: committed steps in the states that were compared.
        agreed: committed steps in the newest state before it that all holders agreed on.
    """

    def __init__(self, message: str, workers: frozenset[int], step: int, agreed: int) -> None:
        super().__init__(message)
        self.workers = workers
        self.step = step
        self.agreed = agreed


class Recorder:
    """Records of one run; its methods may be called from any thread, one at a time goes on.

    Args:
        mission: what is carried out.
        emit: takes every event, in order.
        ledger: of the steps that were committed before.
        on_step: told each committed step, with the ledger after it.
        on_differ: told that replicas differ.
        on_missed: told that a worker misses a message.
        on_moved: told that a worker got states of others.
        rate: the learning rate of a step, 0 the first.
    """

    def __init__(
        self,
        mission: Mission,
        emit: Callable[[Event], None],
        ledger: Ledger,
        on_step: Callable[[StepDone, Ledger], None],
        on_differ: Callable[[ReplicasDifferError], None],
        on_missed: Callable[[Missed], None],
        on_moved: Callable[[StateMoved], None],
        rate: Callable[[int], float],
    ) -> None:
        self._mission = mission
        self._emit_to = emit
        self._on_step = on_step
        self._on_differ = on_differ
        self._on_missed = on_missed
        self._on_moved = on_moved
        self._rate = rate
        self._lock = threading.RLock()
        self.ledger = ledger
        self.last: StepDone | None = None
        self.profile: Profile = mission.profile
        self._plan = mission.plan
        self.programs: Mapping[int, Program] = mission.programs
        self._timings = Timings(mission.plan.workers)
        self._hashed: dict[int, dict[int, Mapping[str, str]]] = {}
        self._hashed_to: dict[int, int] = {}
        self._compared = ledger.committed
        """The last step whose hashes were compared, or that was not this run's."""
        self._agreed = ledger.committed
        self._differ = False
        """Holders differ: told once, until training has gone back to before it."""
        self._since = -1
        """What workers report of an older generation is of steps that were given up."""

    def emit(self, event: Event) -> None:
        """Add an event to the log."""
        with self._lock:
            self._emit_to(event)

    def warn(self, message: str) -> None:
        """Tell the user something; training goes on."""
        self.emit(Warned(time_s=time.time(), message=message))

    def take(self, worker: int, lines: Iterable[str]) -> None:
        """What ``worker`` reported, oldest first."""
        with self._lock:
            for line in lines:
                self._take(parse_event(line))

    def remember(self, events: Iterable[Event]) -> None:
        """Take the ledger of this run from its log, without telling anything again."""
        with self._lock:
            done: list[StepDone] = []
            for event in events:
                if isinstance(event, StateHashed):
                    self._compared = self._agreed = event.step
                if isinstance(event, StepDone):
                    while done and _again(event, done[-1]):
                        done.pop()
                    done.append(event)
            for event in done:
                if event.step == self.ledger.committed + 1:
                    self.ledger = self.ledger.commit(
                        event.step - 1, event.samples, skipped=event.skipped
                    )
                    self.last = event

    def committed(self, step: int, tally: Tally, generation: int) -> None:
        """A step that is known to be committed, in case nobody lives who would report it.

        Args:
            step: committed steps with this one.
            tally: what its ballots said.
            generation: in which it was.
        """
        with self._lock:
            if step != self.ledger.committed + 1:
                return
            self._step_done(
                StepDone(
                    time_s=time.time(),
                    step=step,
                    generation=generation,
                    loss=tally.loss,
                    auxiliary=tally.auxiliary,
                    norm=tally.norm,
                    lr=self._rate(step - 1),
                    count=tally.count,
                    samples=tally.samples,
                    seconds=max(0.0, time.time() - self.last.time_s) if self.last else 0.0,
                    skipped=not tally.finite,
                    micro_batches=tally.micro_batches,
                )
            )

    def change(self, plan: Plan, programs: Mapping[int, Program]) -> None:
        """Another plan is in force: nobody waits for what workers that are gone did not tell."""
        with self._lock:
            self._plan, self.programs = plan, programs
            self._timings = Timings(plan.workers)
            for step in sorted(self._hashed):
                self._compare(step)

    def back_to(self, ledger: Ledger, generation: int) -> None:
        """Steps behind ``ledger`` are given up and will be done again, from ``generation`` on."""
        with self._lock:
            self.ledger, self._since, self._differ = ledger, generation, False
            self._agreed = min(self._agreed, ledger.committed)
            self._hashed = {s: by for s, by in self._hashed.items() if s <= ledger.committed}
            self._compared = min(self._compared, ledger.committed)
            self._hashed_to = {w: min(s, ledger.committed) for w, s in self._hashed_to.items()}

    def _take(self, event: Event) -> None:
        match event:
            case StepDone() | LayersHashed() if event.generation < self._since:
                pass
            case StepDone():
                self._step_done(event)
            case LayersHashed() if event.step <= self._compared:
                pass  # told again at the beginning of a generation
            case LayersHashed():
                self._hashed.setdefault(event.step, {})[event.worker] = event.hashes
                self._hashed_to[event.worker] = event.step
                for step in [step for step in sorted(self._hashed) if step <= event.step]:
                    self._compare(step)
            case Missed():
                self._emit_to(event)
                self._on_missed(event)
            case StateMoved():
                self._emit_to(event)
                self._on_moved(event)
            case LayersTimed():
                self._layers_timed(event)
            case _:
                self._emit_to(event)

    def _step_done(self, event: StepDone) -> None:
        if event.step <= self.ledger.committed:
            return  # told by another worker, or before the controller was replaced
        if event.step > self.ledger.committed + 1:
            self.warn(
                f"steps {self.ledger.committed + 1} to {event.step - 1} were committed, but their "
                "records are lost; the ledger counts them with the samples of this one"
            )
        while self.ledger.committed < event.step - 1:
            self.ledger = self.ledger.commit(self.ledger.committed, event.samples)
        self.ledger = self.ledger.commit(event.step - 1, event.samples, skipped=event.skipped)
        self.last = event
        self._emit_to(event)
        self._on_step(event, self.ledger)

    def _layers_timed(self, event: LayersTimed) -> None:
        if not self._timings.take(event.worker, event.times, event.memory_costs):
            return
        mission = self._mission
        self.profile = self._timings.apply(self.profile, f"measured before step {event.step}")
        self._emit_to(plan_chosen(self._plan, self.programs, self.profile, mission.exact))
        try:
            keep(Path(mission.folder), mission.config, self.profile)
        except OSError as error:
            self.warn(f"the measured profile could not be kept: {error}")

    def _compare(self, step: int) -> None:
        """Compare the hashes of ``step`` once no more of them will come.

        A worker tells them in order, and not those of a step that it was rolled forward over.
        """
        holders = {worker for worker in self._plan.workers if self._plan.held(worker)}
        if any(self._hashed_to.get(worker, -1) < step for worker in holders):
            return
        by_worker = self._hashed.pop(step)
        self._compared = max(self._compared, step)
        if {name for hashes in by_worker.values() for name in hashes} != set(self._mission.names):
            return  # who alone held a layer was lost before it told
        votes: dict[str, dict[str, set[int]]] = {name: {} for name in self._mission.names}
        for worker, hashes in by_worker.items():
            for name, value in hashes.items():
                votes[name].setdefault(value, set()).add(worker)
        parted = {name: values for name, values in votes.items() if len(values) > 1}
        if parted or self._differ:
            if not self._differ:
                self._differ = True
                self._on_differ(_difference(step, parted, self._agreed))
            return
        self._agreed = step
        layers = {name: next(iter(values)) for name, values in votes.items()}
        total = combine({name: int(value, 16) for name, value in layers.items()})
        self._emit_to(StateHashed(time_s=time.time(), step=step, state_hash=total, layers=layers))


def _again(event: StepDone, earlier: StepDone) -> bool:
    """Whether ``event`` shows that training had gone back to before ``earlier``."""
    return event.step <= earlier.step and event.generation > earlier.generation


def _difference(
    step: int, parted: Mapping[str, Mapping[str, set[int]]], agreed: int
) -> ReplicasDifferError:
    """What to say of holders that disagree about the layers ``parted``; of each: hash, who has it.

    Whoever is in a minority in one layer is wrong. If the holders of another layer are split so
    that nobody is in a minority, some that are wrong cannot be told.
    """
    wrong: set[int] = set()
    clear = True
    for votes in parted.values():
        groups = sorted(votes.values(), key=len, reverse=True)
        if len(groups[0]) > sum(map(len, groups[1:])):
            wrong.update(*groups[1:])
        else:
            clear = False
    name, votes = next(iter(parted.items()))
    who = " and ".join(
        f"{'worker' if len(group) == 1 else 'workers'} {', '.join(map(str, sorted(group)))} "
        f"{'holds' if len(group) == 1 else 'hold'} {value}"
        for value, group in sorted(votes.items(), key=lambda item: -len(item[1]))
    )
    more = f" (and of {len(parted) - 1} other layers)" if len(parted) > 1 else ""
    return ReplicasDifferError(
        f"after step {step} the states of layer {name}{more} differ: {who}",
        frozenset(wrong) if clear else frozenset(),
        step,
        agreed,
    )
