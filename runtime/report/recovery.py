"""What every failure cost: the phases of each recovery as a band, with the decision behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ithaca.recovery.timeline import PHASES, Account, Episode, Notice, account
from ithaca.runtime.events import Event
from ithaca.runtime.report.story import Story
from ithaca.runtime.report.wording import duration, plural, short, size

MEANING = {
    "detect": "until it was noticed",
    "wake": "until the survivors stood still",
    "decide": "until there was a plan",
    "rebuild": "connections made",
    "move": "state moved",
    "redo": "work done again",
    "first_step": "to the first new commit",
}
_MOST = 60
_NARROWEST = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """One phase: from ``left`` over ``width``, of 1000."""

    phase: str
    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that was compared; ``look`` is ``chosen``, ``possible`` or ``refused``."""

    look: str
    strategy: str
    step: str
    transition: str
    peak: str
    score: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, where, and what showed it; ``detail`` is a traceback, or nothing."""

    what: str
    where: str
    evidence: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One recovery as the page shows it; ``look`` is ``good`` or ``bad``."""

    look: str
    title: str
    since_s: float | None
    faults: tuple[str, ...]
    failures: tuple[Failure, ...]
    answer: str
    reason: str
    parts: tuple[Part, ...]
    facts: tuple[tuple[str, str], ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class View:
    """All recoveries, oldest first; ``older`` are not shown."""

    rows: tuple[Row, ...]
    older: int
    unnoticed: tuple[str, ...]
    legend: tuple[tuple[str, str, str], ...]


def records(events: Sequence[Event]) -> list[dict[str, Any]]:
    """``events`` as the records of :func:`~ithaca.recovery.timeline.account`."""
    return [{"kind": event.kind, **asdict(event)} for event in events]


def view(story: Story) -> View | None:
    """The recoveries of ``story``; None if nothing ever failed."""
    told = account(records(story.incidents))
    if not told.episodes and not told.unnoticed:
        return None
    shown = told.episodes[-_MOST:]
    longest = max((episode.total_s for episode in shown), default=0.0)
    return View(
        rows=tuple(_row(episode, longest) for episode in shown),
        older=len(told.episodes) - len(shown),
        unnoticed=tuple(each.fault for each in told.unnoticed),
        legend=tuple((name, spoken(name), meaning) for name, meaning in MEANING.items()),
    )


def headline(told: Account) -> str:
    """All recoveries in one sentence."""
    failed = [episode for episode in told.episodes if episode.notices]
    ended = [episode for episode in failed if episode.recovered]
    redone = sum(episode.redone_micro_batches for episode in ended)
    lost = sum(episode.lost_samples for episode in ended)
    return (
        f"{len(ended)} of {plural(len(failed), 'failure')} survived, "
        f"{plural(redone, 'micro-batch')} done again, {plural(lost, 'sample')} lost"
    )


def spoken(phase: str) -> str:
    """The name of a phase as people write it."""
    return phase.replace("_", " ")


def title(episode: Episode) -> str:
    """What happened, in a few words: ``crash of worker 1``."""
    if not episode.notices:
        return f"{episode.strategy or 'a change of plan'}, without a failure"
    return " and ".join(what(notice) for notice in episode.notices)


def what(notice: Notice) -> str:
    """One failure in a few words."""
    whom = f"worker {notice.worker}" if notice.worker is not None else notice.node
    return f"{notice.failure} of {whom}" if whom else notice.failure


def where(notice: Notice) -> str:
    """Rank, node, step and action of a failure."""
    parts = [f"rank {notice.rank}"] if notice.rank is not None else []
    parts += [f"node {notice.node}"] if notice.node else []
    parts.append(f"in step {notice.step}")
    parts += [notice.action] if notice.action else []
    return ", ".join(parts)


def _row(episode: Episode, longest_s: float) -> Row:
    last = episode.choices[-1] if episode.choices else None
    return Row(
        look="good" if episode.recovered else "bad",
        title=title(episode),
        since_s=episode.began_s,
        faults=tuple(injection.fault for injection in episode.injections),
        failures=tuple(
            Failure(what(n), where(n), n.evidence, n.traceback) for n in episode.notices
        ),
        answer=episode.strategy if episode.recovered else "not recovered",
        reason=last.reason if last else "",
        parts=_parts(episode.phases, longest_s),
        facts=_facts(episode),
        candidates=tuple(_candidate(each, episode.strategy) for each in last.candidates)
        if last
        else (),
    )


def _parts(phases: Mapping[str, float], longest_s: float) -> tuple[Part, ...]:
    parts = []
    left = 0.0
    for name, seconds in phases.items():
        if not 0.0 < seconds < float("inf"):
            continue
        width = max(_NARROWEST, 1000.0 * seconds / longest_s) if longest_s else _NARROWEST
        width = min(width, max(0.0, 1000.0 - left))
        look = name if name in PHASES else "OTHER"
        parts.append(
            Part(look, round(left, 2), round(width, 2), f"{spoken(name)} {duration(seconds)}")
        )
        left += width
    return tuple(parts)


def _facts(episode: Episode) -> tuple[tuple[str, str], ...]:
    """What a reader wants to know of it, with its name."""
    if not episode.recovered:
        return ()
    facts = [("in all", duration(episode.total_s))]
    if episode.latency_s is not None:
        facts.append(("noticed after", duration(episode.latency_s)))
    if episode.pause_s is not None:
        facts.append(("pause", duration(episode.pause_s)))
    facts.append(("done again", plural(episode.redone_micro_batches, "micro-batch")))
    facts.append(("lost", plural(episode.lost_samples, "sample")))
    predicted, measured = episode.predicted_step_s, episode.measured_step_s
    if predicted is not None:
        facts.append(("step predicted", duration(predicted)))
    if measured is not None:
        facts.append(("step measured", duration(measured)))
    return tuple(facts)


def _candidate(record: Mapping[str, Any], chosen: str) -> Candidate:
    feasible = bool(record.get("feasible", True))
    strategy = str(record.get("strategy", ""))
    return Candidate(
        look="chosen" if strategy == chosen and feasible else "possible" if feasible else "refused",
        strategy=strategy,
        step=_number(record.get("step_s"), duration),
        transition=_number(record.get("transition_s"), duration),
        peak=_number(record.get("peak_bytes"), size),
        score=_number(record.get("score"), short),
        reason=str(record.get("reason") or ""),
    )


def _number(value: object, write: Any) -> str:  # noqa: ANN401 - a function from a number to text
    return str(write(value)) if isinstance(value, int | float) else "–"  # noqa: RUF001
