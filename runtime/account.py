"""The account of a recovery: what took how long, what was done again, what had been predicted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Compute, Op
from ithaca.recovery.failure import Failure
from ithaca.recovery.regroup import Regrouping
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Candidate
from ithaca.recovery.timeline import PHASES
from ithaca.runtime.events import Recovered, StateMoved, StepDone

_RECENT = 16
"""Steps that tell how long an undisturbed one takes, where no prediction was measured."""


@dataclass(slots=True)
class _Open:
    """A recovery whose first step is not committed yet."""

    noticed_s: float
    since_s: float
    stood_s: float = 0.0
    decided_s: float = 0.0
    settled_s: float | None = None
    generation: int = -1
    chosen: Candidate | None = None
    redone: Mapping[int, tuple[Compute, ...]] = field(default_factory=dict)
    given_up: int = 0
    moved_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)


class Account:
    """Accounts of one run's recoveries; used by the controller's thread alone.

    Args:
        now: the run's clock in seconds.
        profile: the newest one, for what redone work takes.
        step_s: predicted seconds of a step under the plan in force before.
    """

    def __init__(
        self, now: Callable[[], float], profile: Callable[[], Profile], step_s: float | None
    ) -> None:
        self.now = now
        self._profile = profile
        self._step_s = step_s
        self._open: _Open | None = None
        self._last_step_s: float | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def begin(self, failures: Sequence[Failure]) -> None:
        """A recovery begins, or goes on into a plan that was put off."""
        if self._open is not None:
            self.more(failures)
            return
        now = self.now()
        since_s = min((f.since_s for f in failures), default=now)
        self._open = _Open(now, since_s, failures=list(failures))

    def more(self, failures: Sequence[Failure]) -> None:
        """Further failures meanwhile."""
        assert self._open is not None, "a recovery is under way"
        self._open.failures += failures

    def stood(self) -> None:
        """Everybody stands."""
        if self._open is not None:
            self._open.stood_s = self.now()

    def decided(self, chosen: Candidate) -> None:
        """An answer was chosen."""
        if self._open is not None:
            self._open.decided_s, self._open.chosen = self.now(), chosen

    def regrouped(self, regrouping: Regrouping, plan: Plan) -> None:
        """Orders were made; what is in them that is done a second time."""
        if self._open is not None:
            self._open.redone = regrouping.redone_by
            self._open.generation = plan.generation

    def rolled_back(self, standings: Mapping[int, Standing], step: int, plan: Plan) -> None:
        """Everything behind ``step`` committed steps is given up and will be done again."""
        if self._open is not None:
            newest = max((standing.step for standing in standings.values()), default=step)
            self._open.given_up = max(0, newest - step) * plan.num_micro_batches
            self._open.generation = plan.generation

    def moved(self, event: StateMoved) -> None:
        """A worker got states of others; all do so at the same time."""
        if self._open is not None and event.generation >= self._open.generation:
            self._open.moved_s = max(self._open.moved_s, event.seconds)

    def settled(self) -> None:
        """Everybody has taken its orders."""
        if self._open is not None:
            self._open.settled_s = self.now()

    def step(self, event: StepDone) -> Recovered | None:
        """A step was committed; the account of the recovery that it ends, if it ends one."""
        now, before = self.now(), self._last_step_s
        self._last_step_s = now
        was = self._open
        if was is None:
            self._recent.append(event.seconds)
            return None
        if was.settled_s is None or event.generation < was.generation:
            return None
        self._open = None
        redo_s = self._redo_s(was.redone)
        took_s = now - before if before is not None else now - was.since_s
        predicted = was.chosen.step_s if was.chosen else None
        usual = median(self._recent) if self._recent else predicted or 0.0
        undisturbed = self._step_s if self._step_s is not None else usual
        if predicted is not None:
            self._step_s = predicted
        return Recovered(
            time_s=time.time(),
            generation=event.generation,
            strategy=was.chosen.strategy.value if was.chosen else "",
            phases=self._phases(was, now, redo_s),
            redone=[
                {
                    "first": compute.layers.first,
                    "last": compute.layers.last,
                    "micro_batch": compute.micro_batch,
                    "op": compute.op.value,
                }
                for each in was.redone.values()
                for compute in each
            ],
            redone_micro_batches=was.given_up or _micro_batches(was.redone),
            lost_samples=_lost(event, was.chosen.plan if was.chosen else None),
            pause_s=took_s - undisturbed - redo_s,
            predicted_step_s=predicted,
            predicted_transition_s=was.chosen.transition_s if was.chosen else None,
        )

    def _phases(self, was: _Open, now: float, redo_s: float) -> dict[str, float]:
        assert was.settled_s is not None, "only a settled recovery has phases"
        stood, decided = max(was.stood_s, was.noticed_s), max(was.decided_s, was.stood_s)
        # States move once all have met, and before anybody's first action.
        first_s = max(0.0, now - was.settled_s)
        moved_s = min(was.moved_s, first_s)
        first_s -= moved_s
        redo_s = min(redo_s, first_s)
        values = (
            max(0.0, was.noticed_s - was.since_s),
            max(0.0, stood - was.noticed_s),
            max(0.0, decided - stood),
            max(0.0, was.settled_s - decided),
            moved_s,
            redo_s,
            first_s - redo_s,
        )
        return dict(zip(PHASES, values, strict=True))

    def _redo_s(self, redone: Mapping[int, tuple[Compute, ...]]) -> float:
        """What the redone work takes by the profile, on the worker that has most of it."""
        layers = self._profile().layers
        seconds = {
            Op.F: lambda layer: layer.forward_s,
            Op.B: lambda layer: layer.backward_s,
            Op.I: lambda layer: layer.input_s,
            Op.W: lambda layer: layer.weight_s,
        }
        shares = [
            sum(seconds[compute.op](layers[index]) for compute in each for index in compute.layers)
            for each in redone.values()
        ]
        return max(shares, default=0.0)


def _micro_batches(redone: Mapping[int, tuple[Compute, ...]]) -> int:
    return len({compute.micro_batch for each in redone.values() for compute in each})


def _lost(event: StepDone, plan: Plan | None) -> int:
    """Samples of the step whose losses are not in it."""
    if plan is None or not event.micro_batches:
        return 0
    missing = plan.num_micro_batches - event.micro_batches
    return round(missing * event.samples / event.micro_batches)
