"""What happened besides steps: the list of events, each as a line with a detail to unfold."""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.runtime.events import (
    CheckpointWritten,
    ControllerRestarted,
    Decided,
    FailureNoticed,
    FaultInjected,
    PlanChosen,
    Recovered,
    RunEnded,
    RunStarted,
    Warned,
    WorkerFailed,
    WorkerLeft,
)
from ithaca.runtime.report.story import Incident, Notice, Story
from ithaca.runtime.report.wording import clock, duration, plural, size

_MOST = 400


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list; ``look`` is its CSS class."""

    at: str
    look: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run stands: a word, its CSS class, and the reason if there is one."""

    word: str
    look: str
    reason: str


def outcome(story: Story) -> Outcome:
    """How the newest attempt ended; without an end the run still goes on, or was killed."""
    if story.end is not None:
        looks = {"finished": "good", "drained": "pause", "failed": "bad"}
        reason = "" if story.end.outcome == "finished" else story.end.reason
        return Outcome(story.end.outcome, looks.get(story.end.outcome, "open"), reason)
    if story.run is None:
        return Outcome("empty", "open", "The log has no record of a start.")
    return Outcome("no end", "open", "The run still goes on, or ended without a word.")


def entries(story: Story) -> list[Entry]:
    """The newest notices, oldest first; one line says how many older ones there are."""
    first_s = story.notices[0].time_s if story.notices else 0.0
    shown = [_entry(notice, first_s) for notice in story.notices[-_MOST:]]
    older = len(story.notices) - len(shown)
    if older:
        shown.insert(0, Entry("", "plain", f"{plural(older, 'older event')}: see the log"))
    return shown


def since(time_s: float, first_s: float) -> str:
    """When something happened, as time since the first record."""
    return f"+{clock(time_s - first_s)}"


def _entry(notice: Notice, first_s: float) -> Entry:
    at = since(notice.time_s, first_s)
    match notice:
        case RunStarted(resumed_from=None):
            return Entry(at, "plain", f"started: {plural(notice.steps, 'step')} to do")
        case RunStarted():
            return Entry(at, "plain", f"resumed after {plural(notice.resumed_from or 0, 'step')}")
        case PlanChosen():
            text = f"generation {notice.generation}: {notice.reason}"
            return Entry(at, "plain", text, notice.plan)
        case CheckpointWritten():
            facts = f"{size(notice.bytes)} in {duration(notice.seconds)}"
            text = f"checkpoint after {plural(notice.step, 'step')}, {facts}"
            return Entry(at, "good", text, f"{notice.path}\n{notice.state_hash}")
        case Warned():
            return Entry(at, "pause", notice.message)
        case WorkerFailed():
            where = f"worker {notice.worker} (rank {notice.rank}, node {notice.node}) failed"
            text = f"{where} in step {notice.step}, {notice.action}: {notice.cause}"
            return Entry(at, "bad", text, notice.traceback)
        case RunEnded():
            looks = {"finished": "good", "failed": "bad"}
            text = f"{notice.outcome} after {plural(notice.step, 'step')}"
            reason = f": {notice.reason}" if notice.reason else ""
            return Entry(at, looks.get(notice.outcome, "pause"), text + reason)
        case _:
            return _incident(notice, at)


def _incident(notice: Incident, at: str) -> Entry:
    match notice:
        case FaultInjected():
            return Entry(at, "pause", f"drill: {notice.fault}", f"at {notice.action}")
        case FailureNoticed():
            whom = f"worker {notice.worker} on" if notice.worker is not None else ""
            text = f"{notice.failure}: {whom} {notice.node} in step {notice.step}, {notice.action}"
            return Entry(at, "bad", f"{text}: {notice.evidence}", notice.traceback)
        case Decided():
            text = f"generation {notice.generation} by {notice.strategy}: {notice.reason}"
            return Entry(at, "plain", text, notice.plan or "")
        case Recovered():
            took = duration(sum(notice.phases.values()))
            again = plural(notice.redone_micro_batches, "micro-batch")
            return Entry(
                at, "good", f"recovered by {notice.strategy} in {took}; {again} done again"
            )
        case WorkerLeft():
            text = f"worker {notice.worker} on {notice.node} left: {notice.reason}"
            return Entry(at, "pause", text)
        case ControllerRestarted():
            text = (
                f"the controller was restarted ({notice.incarnation}); training went on meanwhile"
            )
            return Entry(at, "pause", text)
