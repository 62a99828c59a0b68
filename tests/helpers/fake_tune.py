"""Processes of a search without processes: they train on a virtual clock, and can be lost.

Each is a real :class:`TrialProcess` in everything but its training, whose time is told by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ithaca.tuners.loop.orders import Look, Outcome, Run


def value(run: Run, step: int) -> float:
    """Lower for higher learning rates and more steps."""
    return 1.0 / (run.job.load().job.optimizer.lr * 10 + step)


@dataclass
class FakeProcess:
    """One process: what it holds, and the run it is in."""

    kept: dict[int, int] = field(default_factory=dict)
    run: Run | None = None
    step: float = 0.0
    began: float = 0.0
    outcome: Outcome | None = None


@dataclass
class FakeDisk:
    """What is on the disk: the newest step of each trial."""

    kept: dict[int, int] = field(default_factory=dict)

    def steps(self) -> dict[int, int]:
        """Of every trial."""
        return dict(self.kept)

    def drop(self, trials: Iterable[int]) -> None:
        """Forget states."""
        for trial in trials:
            self.kept.pop(trial, None)


class FakeCrew:
    """Processes on a clock that :meth:`poll` moves; one step takes ``step_s`` seconds.

    Args:
        size: how many there are.
        value: of a job at a step.
        disk: step of the state of each trial that outlives all of them.
    """

    def __init__(
        self,
        size: int,
        value: Callable[[Run, int], float],
        step_s: float = 0.1,
        disk: FakeDisk | None = None,
        now: float = 1000.0,
    ) -> None:
        self.now = now
        self.disk = disk or FakeDisk()
        self.step_s = step_s
        self.value = value
        self.processes = {number: FakeProcess() for number in range(size)}
        self.seen: dict[int, Look] = {}
        self.gone: list[int] = []
        self.first_steps: list[tuple[int, int]] = []
        self.refuse: set[int] = set()
        self._takes: list[tuple[Callable[[bool], None], bool]] = []
        self.killed: list[int] = []
        self.look()

    def clock(self) -> float:
        """The wall clock."""
        return self.now

    # -- what a coordinator calls

    def poll(self, bound_s: float) -> None:
        """Let time pass."""
        self.now += bound_s
        for take, begun in self._takes:
            take(begun)
        self._takes.clear()
        for number, process in self.processes.items():
            self._train(number, process, bound_s)
        self.look()

    def look(self) -> None:
        """Everybody says how it is."""
        self.seen = {
            number: Look(
                p.run.trial if p.run else None,
                p.run.run if p.run else 0,
                int(p.step),
                p.outcome,
                dict(p.kept),
                number,
            )
            for number, p in self.processes.items()
        }

    def acknowledge(self, number: int, trial: int, run: int) -> None:
        """Forget the outcome."""
        process = self.processes.get(number)
        if process is not None and process.outcome is not None:
            process.outcome = None
            self.seen[number] = replace(self.seen[number], outcome=None)

    def begin(
        self, number: int, run: Run, source: int | None, take: Callable[[bool], None]
    ) -> None:
        """Begin, if the state is where it should be."""
        process = self.processes.get(number)
        holder = process if source is None or source == number else self.processes.get(source)
        found = holder is not None and holder.kept.get(run.trial) == run.first
        fits = not run.first or found or self.disk.kept.get(run.trial) == run.first
        ready = process is not None and process.run is None and fits
        if process is not None and ready:
            self.first_steps.append((run.trial, run.first))
            process.run, process.step, process.began = run, float(run.first), self.now
        self._takes.append((take, ready))

    def send(self, number: int, trial: int, to: int) -> None:
        """Copy at once."""
        if to in self.processes and number in self.processes:
            self.processes[to].kept[trial] = self.processes[number].kept[trial]

    def partner(self, number: int, other: int) -> None:
        """Further copies go there."""
        process = self.processes[number]
        if process.run is not None:
            process.run = replace(process.run, partner=other)

    def drop(self, number: int, trials: tuple[int, ...]) -> None:
        """Forget states."""
        for trial in trials:
            self.processes[number].kept.pop(trial, None)

    def kill(self, number: int) -> None:
        """End a process; a new one comes."""
        self.killed.append(number)
        self.lose(number)

    # -- what a test does

    def lose(self, number: int) -> None:
        """A process is gone, with all that it holds; another one comes."""
        del self.processes[number]
        self.seen.pop(number, None)
        self.gone.append(number)
        self.processes[number + 100] = FakeProcess()

    def _train(self, number: int, process: FakeProcess, seconds: float) -> None:
        run = process.run
        if run is None:
            return
        before = process.step
        process.step = min(process.step + seconds / self.step_s, float(run.last))
        partner = self.processes.get(run.partner)
        if partner is None:
            process.step = before  # it waits for somebody to take its state
            return
        if int(process.step) // 5 > int(before) // 5:  # a copy every five steps
            partner.kept[run.trial] = self.disk.kept[run.trial] = int(process.step) // 5 * 5
        if process.step < run.last:
            return
        partner.kept[run.trial] = process.kept[run.trial] = run.last
        self.disk.kept[run.trial] = run.last
        process.run = None
        process.outcome = Outcome(
            run.trial,
            run.run,
            self.value(run, run.last),
            None,
            "",
            run.first,
            run.last,
            (1.0,) * (run.last - run.first),
            "",
            self.now - process.began,
        )
