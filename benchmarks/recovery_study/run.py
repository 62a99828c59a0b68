"""One system through one trace: how many steps are committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, inf

from benchmarks.recovery_study.deployment import Count, Deployment, System
from benchmarks.recovery_study.traces import Trace


@dataclass(frozen=True, slots=True)
class Answer:
    """A deployment, and when it was chosen."""

    time_s: float
    cards: int
    deployment: Deployment


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        steps: committed, and at the end of time the part of the one under way.
        saved: that the newest checkpoint holds.
        ready_s: when the present deployment begins or began to train.
        answers: all deployments so far.
    """

    checkpoint_s: float
    steps: float = 0.0
    saved: float = 0.0
    now_s: float = 0.0
    ready_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)

    @property
    def deployment(self) -> Deployment:
        """The present one."""
        return self.answers[-1].deployment

    @property
    def count(self) -> Count:
        """Whole steps, and those in the newest checkpoint."""
        return Count(floor(self.steps), floor(self.saved))

    def take(self, answer: Answer) -> None:
        """Go on under another deployment.

        A transition that is still under way is finished first. Of the work on the step under way
        ``redone`` is lost; what is kept shortens the first step.
        """
        deployment = answer.deployment
        if deployment.rolled_back:
            self.steps = self.saved
        else:
            committed = floor(self.steps)
            self.steps -= deployment.redone * (self.steps - committed)
        self.ready_s = max(self.ready_s, answer.time_s) + deployment.pause_s
        self.answers.append(answer)

    def advance(self, until_s: float) -> None:
        """Train until ``until_s``."""
        last = floor(until_s / self.checkpoint_s) * self.checkpoint_s
        if last > self.now_s:
            self.saved = float(floor(self._steps_at(last)))
        self.steps = self._steps_at(until_s)
        self.now_s = until_s

    def _steps_at(self, time_s: float) -> float:
        begin = max(self.ready_s, self.now_s)
        if time_s <= begin or self.deployment.step_s == inf:
            return self.steps
        return self.steps + (time_s - begin) / self.deployment.step_s


def run(trace: Trace, system: System) -> Progress:
    """Train through ``trace``; deterministic."""
    progress = Progress(system.checkpoint_s)
    cards = trace.start
    progress.take(Answer(0.0, len(cards), system.start(cards)))
    for change in trace.changes:
        progress.advance(change.time_s)
        cards = (cards - change.lost) | change.joined
        answer = system.respond(progress.deployment, change, cards, progress.count)
        if answer is not progress.deployment:
            progress.take(Answer(change.time_s, len(cards), answer))
    progress.advance(trace.duration_s)
    return progress
