"""Trials, and the events of a search: what was asked for, told, lost, wanted and extended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from ithaca.tuners.space import Config


class Failure(Enum):
    """Why a trial has no value. What the cluster does to a trial is not here: see Lost."""

    ERROR = "error"
    NOT_A_NUMBER = "nan"
    TIME = "timeout"
    MEMORY = "memory"


class State(Enum):
    """Where a trial stands."""

    RUNNING = "running"
    PAUSED = "paused"
    LOST = "lost"
    """Paused by an accident that is not its fault: it goes on before anything else."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial is to run, or to go on.

    Attributes:
        trial: number of the trial, from 0.
        arm: name of the arm.
        config: the arm's own part of the configuration.
        fidelity: how far it is to be trained in all; None where there is no such thing.
        limit_s: how long it may take from now on; None for no limit.
        resumed: it goes on from where it stands.
        now_s: seconds since the first ask.
    """

    trial: int
    arm: str
    config: Config
    fidelity: int | None
    limit_s: float | None
    resumed: bool
    now_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """A trial reached its fidelity with a value, or failed.

    Attributes:
        trial: its number.
        value: of the objective; None for a failure.
        failure: why there is none.
        cost_s: seconds since it was asked for.
        fidelity: how far it is trained.
        now_s: seconds since the first ask.
        reason: of a failure, for people.
    """

    trial: int
    value: float | None
    failure: Failure | None
    cost_s: float
    fidelity: int | None
    now_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A trial's worker is gone; the trial is not blamed. ``fidelity``: what is left of it."""

    trial: int
    cost_s: float
    now_s: float
    fidelity: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A configuration that the user wants tried first, or whose value is known already."""

    arm: str
    config: Config
    value: float | None = None
    cost_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Extended:
    """The search ends at another time, or behind another number of trials, in all."""

    budget_s: float | None
    num_trials: int | None


Event = Asked | Told | Lost | Wanted | Extended
_KINDS: dict[str, type[Event]] = {
    "asked": Asked,
    "told": Told,
    "lost": Lost,
    "wanted": Wanted,
    "extended": Extended,
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON values; :func:`from_json` reads it."""
    kind = next(name for name, each in _KINDS.items() if isinstance(event, each))
    data = {"event": kind, **asdict(event)}
    if isinstance(event, Told):
        data["failure"] = event.failure.value if event.failure else None
    return data


def from_json(data: Mapping[str, Any]) -> Event:
    """The event that :func:`to_json` told of.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    fields = dict(data)
    kind = _KINDS[fields.pop("event")]
    if kind is Told and fields["failure"] is not None:
        fields["failure"] = Failure(fields["failure"])
    return kind(**fields)


@dataclass(frozen=True, slots=True)
class Trial:
    """All that is known of one trial.

    Attributes:
        number: from 0, in the order of their first asks.
        arm: name of its arm.
        config: the arm's own part.
        state: where it stands.
        curve: fidelity and value, in order; the fidelity is 0 where there is no such thing.
        cost_s: seconds spent on it, without the run that is under way.
        target: fidelity that it runs to, or ran to last.
        limit_s: of the run that is under way, or of the last one.
        began_s: when that run was asked for.
        ended_s: when the last run ended; 0 if none has.
        runs: how often it was asked for.
        failure: why it has no value.
        reason: of the failure, for people.
    """

    number: int
    arm: str
    config: Config
    state: State
    curve: tuple[tuple[int, float], ...] = ()
    cost_s: float = 0.0
    target: int | None = None
    limit_s: float | None = None
    began_s: float = 0.0
    ended_s: float = 0.0
    runs: int = 1
    failure: Failure | None = None
    reason: str = ""

    @property
    def value(self) -> float | None:
        """The value at the highest fidelity that it reached."""
        return self.curve[-1][1] if self.curve else None

    @property
    def fidelity(self) -> int:
        """The highest fidelity that has a value; 0 for none."""
        return self.curve[-1][0] if self.curve else 0

    @staticmethod
    def begin(event: Asked) -> Trial:
        """The trial that an ask begins."""
        return Trial(
            event.trial,
            event.arm,
            event.config,
            State.RUNNING,
            target=event.fidelity,
            limit_s=event.limit_s,
            began_s=event.now_s,
        )

    def goes_on(self, event: Asked) -> Trial:
        """It, running again."""
        return replace(
            self,
            state=State.RUNNING,
            target=event.fidelity,
            limit_s=event.limit_s,
            began_s=event.now_s,
            runs=self.runs + 1,
        )

    def lost(self, event: Lost) -> Trial:
        """It, without its worker."""
        return replace(
            self, state=State.LOST, cost_s=self.cost_s + event.cost_s, ended_s=event.now_s
        )

    def told(self, event: Told, most: int | None) -> Trial:
        """It, with what was told; ``most`` is the highest fidelity there is."""
        cost = self.cost_s + event.cost_s
        if event.failure is not None:
            return replace(
                self,
                state=State.FAILED,
                cost_s=cost,
                ended_s=event.now_s,
                failure=event.failure,
                reason=event.reason,
            )
        assert event.value is not None
        fidelity = event.fidelity or 0
        done = most is None or fidelity >= most
        return replace(
            self,
            state=State.DONE if done else State.PAUSED,
            curve=(*self.curve, (fidelity, event.value)),
            cost_s=cost,
            ended_s=event.now_s,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; :meth:`parse` reads them."""
        data = asdict(self)
        data["state"] = self.state.value
        data["failure"] = self.failure.value if self.failure else None
        data["curve"] = [list(point) for point in self.curve]
        return data

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Trial:
        """The trial that :meth:`to_json` told of."""
        fields = dict(data)
        fields["state"] = State(fields["state"])
        fields["failure"] = Failure(fields["failure"]) if fields["failure"] else None
        fields["curve"] = tuple((int(f), float(v)) for f, v in fields["curve"])
        return Trial(**fields)
