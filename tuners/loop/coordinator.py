"""Runs a search on processes: asks, begins, tells, and puts right what is lost.

It holds nothing that the journal and the processes do not: a new one reads the journal, asks the
processes what they do and hold, and goes on. Trials are trained on meanwhile. Where all processes
are lost, states are on the disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ithaca.runtime.errors import UserError
from ithaca.tuners.journal import open_journal
from ithaca.tuners.loop.elapsed import Elapsed
from ithaca.tuners.loop.load import LoadedTune
from ithaca.tuners.loop.orders import Look, Outcome, Run
from ithaca.tuners.loop.record import (
    JOURNAL,
    LOG,
    Begun,
    Gone,
    Line,
    Ran,
    Took,
    read_lines,
    write_line,
)
from ithaca.tuners.loop.state_folder import FOLDER, StateFolder
from ithaca.tuners.space import Config
from ithaca.tuners.trial import Asked, Failure, State

_LATE_S, _CAP_LATE_S = 0.1, 2.0
"""So long after the end of the budget, or of its own time, a run may still say that it has ended;
then its process is killed."""


class Files(Protocol):
    """States on the disk, as :class:`ithaca.tuners.loop.state_folder.StateFolder` has them."""

    def steps(self) -> dict[int, int]:
        """The newest step of every trial that has a state there."""

    def drop(self, trials: Iterable[int]) -> None:
        """Remove states."""


class Crew(Protocol):
    """Processes by number, as :class:`ithaca.tuners.loop.crew.ActorCrew` has them."""

    seen: dict[int, Look]
    gone: list[int]

    def poll(self, bound_s: float) -> None:
        """Take in what came."""

    def acknowledge(self, number: int, trial: int, run: int) -> None:
        """The outcome is written down."""

    def begin(
        self, number: int, run: Run, source: int | None, take: Callable[[bool], None]
    ) -> None:
        """Let a process train."""

    def send(self, number: int, trial: int, to: int) -> None:
        """Let a process give a copy to another one."""

    def partner(self, number: int, other: int) -> None:
        """Let further copies go elsewhere."""

    def drop(self, number: int, trials: tuple[int, ...]) -> None:
        """Let a process forget states."""

    def kill(self, number: int) -> None:
        """End a process."""


@dataclass(slots=True)
class Busy:
    """What a process was told to do: the run, when it ends at the latest, its partner."""

    trial: int
    run: int
    began_s: float
    until_s: float | None
    partner: int


OUT_OF_TIME = "out of time"
"""How trials are counted whose time was used up: they did not break."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a search stands.

    Attributes:
        now_s: since the first ask; 0 before it.
        budget_s: of the search.
        best: value of the best trial; None without one.
        config: of the best trial, in full.
        trials: how many there are by state; those whose time was used up under a name of their own.
        arms: that may still be chosen, of how many.
        running: process, trial and step of every run.
        lost: processes that were lost.
        again: trials that had to begin anew although they had got further.
        over: nothing runs, and nothing more will.
        ended_s: when the last run ended.
        before_s: of the time since the first ask, before the search was taken up again.
        unsaved: why the last state could not be written to the disk; empty if it was.
    """

    now_s: float
    budget_s: float
    best: float | None
    config: Config | None
    trials: Mapping[str, int]
    arms: tuple[tuple[str, ...], int]
    running: tuple[tuple[int, int, int], ...]
    lost: int
    again: int
    over: bool
    ended_s: float
    before_s: float = 0.0
    unsaved: str = ""


@dataclass
class Coordinator:
    """One coordinator.

    Args:
        tune: the search.
        folder: of the search.
        crew: the processes.
        clock: wall clock in seconds; that of its successor must agree.
        expected: processes that are asked what they do before anything is begun.
        files: states on the disk; default: those in the folder.
    """

    tune: LoadedTune
    folder: Path
    crew: Crew
    clock: Callable[[], float]
    expected: frozenset[int] = frozenset()
    files: Files | None = None
    _busy: dict[int, Busy] = field(default_factory=dict)
    _sending: dict[tuple[int, int], int] = field(default_factory=dict)
    _adopted: bool = False
    _lost: set[int] = field(default_factory=set)
    _again: int = 0
    _ended_s: float = 0.0
    _done: bool = False
    _unsaved: str = ""

    def __post_init__(self) -> None:
        settings = self.tune.tune.settings(self.tune.steps)
        arms = self.tune.tune.make_arms()
        self.journal, self.search = open_journal(self.folder / JOURNAL, settings, arms)
        if self.files is None:
            self.files = StateFolder(self.folder / FOLDER)
        self._elapsed = Elapsed(self.folder, self.clock)
        for line in read_lines(self.folder / LOG):
            if isinstance(line, Gone):
                self._lost.add(line.process)
            self._again += isinstance(line, Begun) and line.again
        trials = self.search.trials.values()
        self._ended_s = max((t.ended_s for t in trials), default=0.0)
        self._elapsed.at_least(max((t.began_s for t in trials), default=0.0))
        self._elapsed.at_least(self._ended_s)
        self._write(Took(self._now(), os.getpid(), self.journal.lines - 1))

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    # -- one turn

    def turn(self, bound_s: float) -> Summary:
        """Take in what came within ``bound_s`` seconds, and act on it.

        Raises:
            UserError: every trial fails, or what happens cannot be written down.
        """
        self.crew.poll(bound_s)
        self._elapsed.beat()
        for number in self._drain_gone():
            self._lose(number)
        for number, look in list(self.crew.seen.items()):
            if look.outcome is not None:
                self._end(number, look.outcome)
        if not self._adopted:
            self._adopt()
        if self._adopted:
            self._in_time()
            self._copies()
            self._assign()
        return self.summary()

    def summary(self) -> Summary:
        """How it stands."""
        best, counts = self.search.best, dict[str, int]()
        for trial in self.search.trials.values():
            late = trial.failure is Failure.TIME
            state = OUT_OF_TIME if late else trial.state.value
            counts[state] = counts.get(state, 0) + 1
        now_s = self._now()
        seen = self.crew.seen
        return Summary(
            now_s,
            self.tune.tune.budget,
            best.value if best else None,
            self.search.full(best) if best else None,
            counts,
            (self.search.alive(), len(self.search.arms)),
            tuple((n, b.trial, seen[n].step) for n, b in self._busy.items() if n in seen),
            len(self._lost),
            self._again,
            self._done,
            self._ended_s,
            self._elapsed.before_s,
            self._unsaved,
        )

    # -- what happened

    def _drain_gone(self) -> list[int]:
        gone, self.crew.gone = self.crew.gone, []
        return gone

    def _lose(self, number: int) -> None:
        self.expected -= {number}
        if number in self._lost:
            return  # a coordinator before this one wrote it down, and was lost before it was heard
        self._lost.add(number)
        busy = self._busy.pop(number, None)
        now_s = self._now()
        self._write(Gone(now_s, number, busy.trial if busy else None))
        if busy is not None and self._runs(busy.trial, busy.run):
            self._note_lost(busy.trial, now_s - busy.began_s)

    def _note_lost(self, trial: int, cost_s: float) -> None:
        self.journal.write(self.search.lose(trial, now_s=self._now(), cost_s=max(cost_s, 0.0)))

    def _runs(self, trial: int, run: int) -> bool:
        known = self.search.trials.get(trial)
        return known is not None and known.state is State.RUNNING and known.runs == run

    def _end(self, number: int, outcome: Outcome) -> None:
        """Write an outcome down, once, and let the process go."""
        if self._runs(outcome.trial, outcome.run):
            self._unsaved = outcome.unsaved
            now_s = self._now()
            busy = self._busy.get(number)
            cost_s = now_s - busy.began_s if busy else outcome.seconds
            self._write(Ran.of(outcome, number, now_s))
            self._tell(outcome, now_s, cost_s)
        self.crew.acknowledge(number, outcome.trial, outcome.run)
        busy = self._busy.get(number)
        if busy is not None and (busy.trial, busy.run) == (outcome.trial, outcome.run):
            del self._busy[number]

    def _tell(self, outcome: Outcome, now_s: float, cost_s: float) -> None:
        event = self.search.tell(
            outcome.trial,
            outcome.value,
            now_s=now_s,
            cost_s=cost_s,
            # One that reached its target early is at its end all the same.
            fidelity=self.tune.steps if self.tune.tune.target is not None else outcome.step,
            failure=outcome.failure,
            reason=outcome.reason,
        )
        self.journal.write(event)
        self._ended_s = now_s
        trial = self.search.trials[outcome.trial]
        if trial.state in (State.DONE, State.FAILED):
            for number in self.crew.seen:
                self.crew.drop(number, (outcome.trial,))
            self._on_disk().drop((outcome.trial,))
        self._check_hope(outcome)

    def _check_hope(self, outcome: Outcome) -> None:
        first = list(self.search.trials.values())[:10]
        hopeless = len(first) == 10 and all(
            t.state is State.FAILED and t.failure is not Failure.TIME for t in first
        )
        if hopeless:
            raise UserError(f"the first 10 trials all failed, the last one so:\n{outcome.reason}")

    def _adopt(self) -> None:
        """Take over what runs, once everybody has said so or is gone; what runs nowhere is lost."""
        waiting = self.expected - self.crew.seen.keys()
        if waiting or not self.crew.seen:
            return
        self._adopted = True
        now_s = self._now()
        for number, look in self.crew.seen.items():
            if look.trial is not None and self._runs(look.trial, look.run):
                trial = self.search.trials[look.trial]
                until = None if trial.limit_s is None else trial.began_s + trial.limit_s
                self._busy[number] = Busy(look.trial, look.run, trial.began_s, until, -1)
        running = {busy.trial for busy in self._busy.values()}
        for trial in self.search.running:
            if trial.number not in running:
                self._note_lost(trial.number, now_s - trial.began_s)

    # -- what is to be done

    def _in_time(self) -> None:
        """Kill processes whose run has not ended in time."""
        now_s = self._now()
        for number, busy in list(self._busy.items()):
            if busy.until_s is None or now_s < busy.until_s + self._patience_s(busy.until_s):
                continue
            del self._busy[number]
            if self._runs(busy.trial, busy.run):
                cost_s = now_s - busy.began_s
                reason = f"its process was killed after {cost_s:.3g} s"
                event = self.search.tell(
                    busy.trial,
                    None,
                    now_s=now_s,
                    cost_s=cost_s,
                    failure=Failure.TIME,
                    reason=reason,
                )
                self.journal.write(event)
                self._ended_s = now_s
                step = self.crew.seen[number].step if number in self.crew.seen else 0
                cut = Outcome(
                    busy.trial, busy.run, None, Failure.TIME, reason, step, step, (), "", cost_s
                )
                self._write(Ran.of(cut, number, now_s))
            self.crew.kill(number)
            self.crew.gone.remove(number)  # it was not lost

    def _patience_s(self, until_s: float) -> float:
        at_the_end = until_s > self.tune.tune.budget - _LATE_S
        return _LATE_S if at_the_end else _CAP_LATE_S

    def _copies(self) -> None:
        """A second process for every state that one alone holds, and a partner for every run."""
        seen = self.crew.seen
        for number, busy in self._busy.items():
            if busy.partner not in seen:
                other = self._partner_of(number)
                if other is not None:
                    busy.partner = other
                    self.crew.partner(number, other)
        holders: dict[int, list[int]] = {}
        for number, look in seen.items():
            for trial, step in look.kept.items():
                if step == self._newest(trial):
                    holders.setdefault(trial, []).append(number)
        for trial, numbers in holders.items():
            state = self.search.trials[trial].state if trial in self.search.trials else None
            if state not in (State.PAUSED, State.LOST) or len(numbers) > 1:
                continue
            other = self._partner_of(numbers[0])
            step = seen[numbers[0]].kept[trial]
            if other is not None and self._sending.get((trial, other)) != step:
                self._sending[trial, other] = step
                self.crew.send(numbers[0], trial, other)

    def _on_disk(self) -> Files:
        assert self.files is not None
        return self.files

    def _newest(self, trial: int) -> int:
        """The last step of which a process holds a state; 0 if there is none."""
        return max((look.kept.get(trial, 0) for look in self.crew.seen.values()), default=0)

    def _partner_of(self, number: int) -> int | None:
        """Another process: one without work first, then the next in the circle."""
        others = sorted(other for other in self.crew.seen if other != number)
        if not others:
            return None
        return min(others, key=lambda other: (other in self._busy, (other - number) % 1024))

    def _assign(self) -> None:
        """Give work to whoever has none."""
        if not self._busy and self._elapsed.goes_on and self.search.over(self._now()):
            self._done = True  # even if those that were killed at the end have no successors yet
            return
        while len(self._busy) < self.tune.tune.workers:
            idle = [
                number
                for number, look in self.crew.seen.items()
                if number not in self._busy and look.trial is None and look.outcome is None
            ]
            if not idle or (len(self.crew.seen) < 2 and not self._elapsed.goes_on):
                return
            if not self._elapsed.goes_on:
                self._elapsed.begin()
            asked = self.search.ask(self._now())
            if asked is None:
                # With nothing under way nothing will change any more.
                self._done = not self._busy
                return
            self.journal.write(asked)
            self._begin(asked, idle)

    def _begin(self, asked: Asked, idle: list[int]) -> None:
        trial = self.search.trials[asked.trial]
        first = 0
        if asked.resumed:
            first = max(self._newest(asked.trial), self._on_disk().steps().get(asked.trial, 0))
        holders = [n for n, look in self.crew.seen.items() if look.kept.get(asked.trial) == first]
        number = next((n for n in idle if first and n in holders), idle[0])
        # With no holder left it reads the disk itself.
        source = holders[0] if first and holders and number not in holders else None
        again = first < trial.fidelity
        self._again += again
        partner = self._partner_of(number)
        assert asked.fidelity is not None
        run = Run(
            asked.trial,
            trial.runs,
            self.tune.recipe(self.search.full(asked)),
            first,
            asked.fidelity,
            asked.limit_s,
            self.tune.tune.value == "validation",
            self.tune.tune.replicate,
            -1 if partner is None else partner,
            self.tune.tune.target,
            trial.cost_s,
        )
        now_s = self._now()
        until_s = None if asked.limit_s is None else asked.now_s + asked.limit_s
        self._busy[number] = Busy(asked.trial, trial.runs, now_s, until_s, run.partner)
        self._write(Begun(now_s, number, asked.trial, trial.runs, first, again))
        self.crew.begin(number, run, source, lambda begun: self._begun(number, run, begun))

    def _begun(self, number: int, run: Run, begun: bool) -> None:
        """A process could not begin: the state was gone, or it was itself."""
        busy = self._busy.get(number)
        if begun or busy is None or (busy.trial, busy.run) != (run.trial, run.run):
            return
        del self._busy[number]
        if self._runs(run.trial, run.run):
            self._note_lost(run.trial, 0.0)

    def _now(self) -> float:
        return self._elapsed.now_s()

    def _write(self, line: Line) -> None:
        write_line(self.folder / LOG, line)
