"""What a run left behind, from its events, as the judge takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ithaca.planner.plan import Plan
from ithaca.recovery.drill import Result, Trace
from ithaca.recovery.timeline import account
from ithaca.runtime.events import (
    Event,
    FaultInjected,
    PlanChosen,
    RunEnded,
    StateHashed,
    StepDone,
)


def trace_of(events: Sequence[Event]) -> Trace:
    """The bits of a run; of a step that was done again after a rollback, the last record."""
    states: dict[int, str] = {}
    losses: dict[int, tuple[str, str, str, int]] = {}
    for event in events:
        match event:
            case StateHashed():
                states[event.step] = event.state_hash
            case StepDone():
                # As text, exact to the last bit, and equal for two that are not numbers.
                exact = (repr(event.loss), repr(event.auxiliary), repr(event.norm))
                losses[event.step] = (*exact, event.samples)
    return Trace(states, losses)


def result_of(events: Sequence[Event], exit_code: int | None = None, text: str = "") -> Result:
    """Everything that is judged.

    Args:
        events: of the run's log, in order.
        exit_code: of the command, if there was one.
        text: what the command printed.
    """
    ended = next((e for e in reversed(events) if isinstance(e, RunEnded)), None)
    records = [{"kind": event.kind, **asdict(event)} for event in events]
    return Result(
        outcome=ended.outcome if ended else None,
        exit_code=exit_code,
        text=f"{ended.reason if ended else ''}\n{text}".strip(),
        trace=trace_of(events),
        account=account(records),
        struck=tuple(event.fault for event in events if isinstance(event, FaultInjected)),
        plans=_plans(events),
    )


def _plans(events: Sequence[Event]) -> dict[int, Plan]:
    plans: dict[int, Plan] = {}
    for event in events:
        if isinstance(event, PlanChosen):
            plans.setdefault(event.generation, Plan.parse(event.plan))
    return plans
