"""What each failure cost, phase by phase, from the records of a run.

The records are those of the run's log as plain mappings, ``kind`` among their members, so that this
can be computed wherever the log can be read. One *episode* is everything from the first failure
that was noticed to the moment at which the run worked again: further failures meanwhile belong to
it, as the recovery was begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

PHASES = ("detect", "wake", "decide", "rebuild", "move", "redo", "first_step")
"""In order: until it was noticed; until all survivors stood still; until there was a plan;
connections made; state moved; work done again; the first step under the new plan, to its commit."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that a drill caused. ``time_s`` is seconds since the epoch."""

    time_s: float
    fault: str
    worker: int | None
    step: int
    action: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A failure as it was noticed."""

    time_s: float
    generation: int
    failure: str
    worker: int | None
    node: str
    rank: int | None
    step: int
    action: str
    evidence: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided, and what it was chosen from."""

    time_s: float
    generation: int
    strategy: str
    plan: str | None
    reason: str
    candidates: tuple[Record, ...] = ()
    predicted_step_s: float | None = None
    predicted_transition_s: float | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One recovery, or the attempt.

    Attributes:
        notices: the failures, in the order in which they were noticed; none for a change of plan
            that no failure forced, such as a worker that joined.
        injections: the faults of a drill that belong to it.
        choices: what was decided; the last one was carried out.
        ended_s: when the run worked again; None if it never did.
        strategy: by which it recovered; of the last decision if it did not, empty without one.
        phases: seconds, by name, in the order of :data:`PHASES`.
        redone_micro_batches: whose forward or backward was done twice.
        redone: each of them: ``first``, ``last``, ``micro_batch``, ``op``.
        lost_samples: that were not used, or used twice.
        pause_s: the faulted step's time less the predicted step and less the redone work.
        measured_step_s: median of the steps that followed, up to the next change of plan; None
            if there was none.
    """

    notices: tuple[Notice, ...] = ()
    injections: tuple[Injection, ...] = ()
    choices: tuple[Choice, ...] = ()
    ended_s: float | None = None
    strategy: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    redone_micro_batches: int = 0
    redone: tuple[Record, ...] = ()
    lost_samples: int = 0
    pause_s: float | None = None
    predicted_step_s: float | None = None
    measured_step_s: float | None = None

    @property
    def recovered(self) -> bool:
        """Whether the run worked again."""
        return self.ended_s is not None

    @property
    def began_s(self) -> float | None:
        """When the first fault struck, or if that is not known, was noticed."""
        known = [injection.time_s for injection in self.injections]
        known += [notice.time_s for notice in self.notices]
        known += [choice.time_s for choice in self.choices]
        return min(known, default=self.ended_s)

    @property
    def latency_s(self) -> float | None:
        """From the fault of a drill until it was noticed; None outside of drills."""
        pairs = [
            notice.time_s - injection.time_s
            for injection in self.injections
            for notice in self.notices[:1]
            if injection.time_s <= notice.time_s
        ]
        return min(pairs, default=None)

    @property
    def total_s(self) -> float:
        """All phases together, seconds."""
        return sum(self.phases.values())


@dataclass(frozen=True, slots=True)
class Account:
    """What the records tell.

    Attributes:
        episodes: the recoveries, in order.
        unnoticed: faults that no recovery was needed for.
        restarts: when a lost controller had been replaced, seconds since the epoch.
    """

    episodes: tuple[Episode, ...]
    unnoticed: tuple[Injection, ...]
    restarts: tuple[float, ...] = ()


def account(records: Iterable[Record]) -> Account:
    """The episodes of a run.

    Args:
        records: in the order of the log; of other kinds than concern recovery are passed over.
            Keys that are not known here are passed over too.
    """
    episodes: list[Episode] = []
    steps: list[list[float]] = []
    pending: list[Injection] = []
    restarts: list[float] = []
    current = Episode()
    for record in records:
        match record.get("kind"):
            case "controller_restarted":
                restarts.append(record["time_s"])
            case "fault_injected":
                pending.append(_injection(record))
            case "failure_noticed":
                current = replace(current, notices=(*current.notices, _notice(record)))
            case "decided":
                current = replace(current, choices=(*current.choices, _choice(record)))
            case "recovered":
                episodes.append(_ended(current, record))
                steps.append([])
                current = Episode()
            case "step_done" if steps and not (current.notices or current.choices):
                steps[-1].append(float(record["seconds"]))
    episodes = [
        replace(episode, measured_step_s=median(seconds) if seconds else None)
        for episode, seconds in zip(episodes, steps, strict=True)
    ]
    if current.notices or current.choices:
        last = current.choices[-1].strategy if current.choices else ""
        episodes.append(replace(current, strategy=last))
    return replace(_with_injections(episodes, pending), restarts=tuple(restarts))


def _with_injections(episodes: list[Episode], injections: list[Injection]) -> Account:
    """Give each fault to the episode that it caused, if it caused one.

    That is the first episode with a failure of the same worker behind the fault. A fault that hit
    more than one worker, or another than it was meant for, has none such; then it is the first
    episode behind it that no other fault explains.
    """
    owned: list[list[Injection]] = [[] for _ in episodes]
    left = []
    for injection in injections:
        owner = next((i for i, each in enumerate(episodes) if _names(each, injection)), None)
        if owner is None:
            left.append(injection)
        else:
            owned[owner].append(injection)
    unnoticed = []
    for injection in left:
        behind = (
            i
            for i, each in enumerate(episodes)
            if each.notices and not owned[i] and injection.time_s <= each.notices[0].time_s
        )
        owner = next(behind, None)
        if owner is None:
            unnoticed.append(injection)
        else:
            owned[owner].append(injection)
    explained = (replace(e, injections=tuple(o)) for e, o in zip(episodes, owned, strict=True))
    return Account(tuple(explained), tuple(unnoticed))


def _names(episode: Episode, injection: Injection) -> bool:
    return any(
        notice.worker == injection.worker and injection.time_s <= notice.time_s
        for notice in episode.notices
    )


def _ended(current: Episode, record: Record) -> Episode:
    phases = record.get("phases") or {}
    return replace(
        current,
        ended_s=record["time_s"],
        strategy=record["strategy"],
        phases={name: float(phases[name]) for name in _ordered(phases)},
        redone=tuple(record.get("redone") or ()),
        redone_micro_batches=record.get("redone_micro_batches", 0),
        lost_samples=record.get("lost_samples", 0),
        pause_s=record.get("pause_s"),
        predicted_step_s=record.get("predicted_step_s"),
    )


def _ordered(phases: Mapping[str, float]) -> Iterator[str]:
    yield from (name for name in PHASES if name in phases)
    yield from (name for name in phases if name not in PHASES)


def _injection(record: Record) -> Injection:
    return Injection(**_taken(record, Injection))


def _notice(record: Record) -> Notice:
    return Notice(**_taken(record, Notice))


def _choice(record: Record) -> Choice:
    taken = _taken(record, Choice)
    return Choice(**{**taken, "candidates": tuple(taken.get("candidates") or ())})


def _taken(record: Record, cls: type[Any]) -> dict[str, Any]:
    return {name: record[name] for name in cls.__dataclass_fields__ if name in record}
