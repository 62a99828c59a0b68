"""How a run comes to its controller: announced by the first, found again by those that follow."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import dropwhile

from ithaca.planner.plan import Plan
from ithaca.planner.schedule import programs
from ithaca.runtime.checkpoint.compatibility import check_resume
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import (
    CheckpointWritten,
    ControllerRestarted,
    Event,
    RunStarted,
    WorkerJoined,
)
from ithaca.runtime.folder import LOG
from ithaca.runtime.front import Desk
from ithaca.runtime.journal import History
from ithaca.runtime.log import read
from ithaca.runtime.mission import plan_chosen


def announce(desk: Desk, first: bool) -> None:
    """Emit what a run begins with, unless a controller before this one has; ``first``: none was."""
    mission = desk.mission
    if not first and _begun(read(mission.folder / LOG), mission.started):
        return
    found = mission.resume
    warnings = list(mission.warnings)
    if found is not None:
        warnings += check_resume(
            found.manifest, mission.config, mission.fingerprint, mission.identity
        )
    desk.recorder.emit(
        RunStarted(
            time_s=time.time(),
            name=mission.job.name,
            steps=mission.job.steps,
            metric=mission.metric,
            metric_scale=mission.metric_scale,
            job=dict(mission.config),
            identity=dict(mission.identity),
            resumed_from=found.step if found else None,
        )
    )
    for warning in warnings:
        desk.recorder.warn(warning)
    for worker in sorted(desk.facts):
        tell_joined(desk, worker)
    desk.recorder.emit(plan_chosen(mission.plan, mission.programs, mission.profile, mission.exact))


def tell_joined(desk: Desk, worker: int) -> None:
    """Emit that a worker is ready."""
    facts = desk.facts[worker]
    desk.recorder.emit(
        WorkerJoined(
            time_s=time.time(),
            worker=worker,
            node=facts.node,
            pid=facts.pid,
            device=facts.device,
            torch=facts.torch,
        )
    )


def take_over(desk: Desk, history: History) -> CheckpointWritten | None:
    """Go on where another controller was; the newest checkpoint that this run has written.

    Raises:
        UserError: the run had ended already.
    """
    assert history.plan is not None, "only a run that has begun is taken over"
    if history.outcome is not None:
        raise UserError(f"the run had {history.outcome} already when its controller was lost")
    mission, events = desk.mission, read(desk.mission.folder / LOG)
    mine = _begun(events, mission.started)
    desk.recorder.remember(mine)
    plan = Plan.parse(history.plan)
    split = [layer.split for layer in mission.profile.layers]
    desk.members.take_over(plan, history.generation, history.lost)
    desk.recorder.change(plan, programs(plan, ties=mission.ties, split=split))
    desk.keeper.change(plan)
    desk.recorder.emit(ControllerRestarted(time_s=time.time(), incarnation=history.controllers - 1))
    written = [event for event in mine if isinstance(event, CheckpointWritten)]
    return written[-1] if written else None


def _begun(events: Iterable[Event], started: float) -> list[Event]:
    """The events of the run that began at ``started``, from its first on; empty without one."""
    return list(
        dropwhile(
            lambda event: not (isinstance(event, RunStarted) and event.time_s >= started), events
        )
    )
