"""Keep, swap or recompute for every saved tensor, so that a step fits a budget and is short.

Deterministic: the same trace and budget give the same plan on every rank. Nothing here knows the
time: effort is counted in choices that are tried.
"""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.swap.candidates import Candidates
from ithaca.swap.choices import tightest_choice
from ithaca.swap.columns import Columns
from ithaca.swap.identity import At
from ithaca.swap.model import Forecast
from ithaca.swap.plan import Plan
from ithaca.swap.schedule import Choice, Schedule
from ithaca.swap.search import Search
from ithaca.swap.trace import Trace

# Storages that may be placed in one decision; it is divided by their number.
EFFORT = 8_000


@dataclass(frozen=True)
class Refusal:
    """No plan fits.

    Args:
        budget_bytes: what was given.
        smallest_bytes: the smallest budget for which there is a plan.
        place: the point that needs so much.
        operator: its name.
    """

    budget_bytes: int
    smallest_bytes: int
    place: At
    operator: str

    def __str__(self) -> str:
        return (
            f"a budget of {self.budget_bytes} bytes is too small for this step: "
            f"{self.operator} at {self.place} needs {self.smallest_bytes}; "
            f"give at least that, or a smaller batch"
        )


def decide(trace: Trace, budget_bytes: int, effort: int = EFFORT) -> Plan | Refusal:
    """The plan for ``trace`` under ``budget_bytes`` of the device's allocator.

    Its predicted peak is never above the budget. More ``effort`` tries more choices. Where the
    optimizer's state cannot be there all at once, the plan is one for the rest.
    """
    found = _decide(trace, budget_bytes, effort)
    if isinstance(found, Refusal) and trace.paged_bytes:
        return _decide(trace.unpaged(), budget_bytes, effort)
    return found


def _decide(trace: Trace, budget_bytes: int, effort: int) -> Plan | Refusal:
    columns = Columns.of(trace)
    search = Search(columns, budget_bytes, effort)
    levels = columns.keep_all()
    if levels.max(initial=0) <= budget_bytes:
        search.consider(Choice.keep(columns))
    else:
        candidates = Candidates.of(columns)
        tightest = tightest_choice(candidates, budget_bytes)
        floor = tightest.floor
        if floor.max() > budget_bytes:
            point = int(floor.argmax())
            name = trace.points[point].name
            return Refusal(budget_bytes, int(floor.max()), trace.at(point), name)
        search.run(candidates.relevant(levels > budget_bytes), tightest)
    return _plan(budget_bytes, *search.best)


def smallest_budget(trace: Trace) -> int:
    """The smallest budget, in bytes, for which :func:`decide` finds a plan."""
    columns = Columns.of(trace.unpaged())
    kept = int(columns.keep_all().max(initial=0))
    return min(kept, int(tightest_choice(Candidates.of(columns)).floor.max(initial=0)))


def _plan(budget_bytes: int, schedule: Schedule, result: Forecast) -> Plan:
    choice, trace = schedule.choice, schedule.choice.columns.trace
    reasons = []
    for index in range(len(trace.saved)):
        match choice.action[index]:
            case 1:
                wait = result.waits[index]
                reasons.append(f"waits {wait * 1e3:.1f} ms" if wait > 0 else "hidden")
            case 2:
                reasons.append(f"{trace.replays[choice.replay[index]].recipe.value} replay")
            case _:
                movable = choice.columns.movable[index]
                reasons.append("fits" if movable else "held until backward")
    return Plan(
        sequence=trace.sequence,
        budget_bytes=budget_bytes,
        peak_bytes=result.peak_bytes,
        step_s=result.step_s,
        stall_s=result.stall_s,
        recompute_s=result.recompute_s,
        decisions=schedule.decisions(reasons),
    )
