"""Which faults of a job are still to come: placed on workers, and none that has struck before."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ithaca.planner.plan import Plan
from ithaca.recovery.fault import Fault, FaultError
from ithaca.runtime.config.job import Job
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.folder import LOG
from ithaca.runtime.log import read


def struck(folder: Path) -> frozenset[str]:
    """Texts of the faults that have struck in the run folder, in this attempt or an earlier one.

    Whoever takes over, a controller or a resumed run, must not meet them again: it would never
    come past them.
    """
    log = folder / LOG
    if not (log.exists() and log.stat().st_size):
        return frozenset()
    return frozenset(event.fault for event in read(log) if isinstance(event, FaultInjected))


def with_faults_to_come(job: Job, plan: Plan, done: Collection[str]) -> Job:
    """``job`` with the faults that are not in ``done``, each on a worker of ``plan``, the first.

    Raises:
        UserError: the plan has no such pipeline or stage.
    """
    if not job.faults:
        return job
    try:
        placed = [str(Fault.parse(text).on(plan)) for text in job.faults]
    except FaultError as error:
        raise UserError(f"a fault of this job has no place in its plan: {error}") from error
    return job.model_copy(update={"faults": tuple(text for text in placed if text not in done)})
