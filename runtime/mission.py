"""The mission: what a controller carries out, the same for every controller of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.planner.schedule import validation_programs
from ithaca.planner.simulate import simulate
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.config.job import Job, Numerics
from ithaca.runtime.events import PlanChosen
from ithaca.runtime.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Mission:
    """What the controller carries out.

    Attributes:
        run: names this run of the job among all that work in its folder.
        pid: the driver's process.
        started: seconds since the epoch.
        job: the job.
        workload_config: the plug-in's options, sealed.
        config: the resolved job as JSON values, with the plug-in's options; goes into manifests.
        fingerprint: of the workload's data.
        identity: torch build, device class and threads, equal on all workers.
        metric: the name of what the loss is shown as.
        metric_scale: the factor from the loss to that.
        names: of the layers, in order.
        ties: pairs of layers that share a weight.
        plan: the first.
        programs: the training step of every worker under it.
        profile: the costs that the plan was made with.
        folder: the run folder.
        resume: the checkpoint to start from, or None.
        warnings: for the user, from before the start.
    """

    run: str
    pid: int
    started: float
    job: Job
    workload_config: Sealed
    config: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    identity: Mapping[str, str]
    metric: str
    metric_scale: float
    names: tuple[str, ...]
    ties: tuple[tuple[int, int], ...]
    plan: Plan
    programs: Mapping[int, Program]
    profile: Profile
    folder: Path
    resume: Found | None = None
    warnings: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether gradients are summed in the fixed tree."""
        return self.job.numerics is Numerics.EXACT

    @property
    def split(self) -> tuple[bool, ...]:
        """Per layer, whether its backward can be split."""
        return tuple(layer.split for layer in self.profile.layers)

    def validations(self, plan: Plan) -> Mapping[int, Program]:
        """The validation pass of every worker under ``plan``; empty if the job has none."""
        validation = self.job.validation
        return validation_programs(plan, validation.batches) if validation.every else {}


def plan_chosen(
    plan: Plan,
    programs: Mapping[int, Program],
    profile: Profile,
    exact: bool,
    reason: str = "",
) -> PlanChosen:
    """The event that tells a plan and what the simulator expects of it on ``profile``."""
    timeline = simulate(programs, profile, exact=exact)
    return PlanChosen(
        time_s=time.time(),
        generation=plan.generation,
        plan=str(plan),
        programs={str(worker): str(program) for worker, program in programs.items()},
        predicted_step_s=timeline.step_s,
        predicted={
            str(worker): [(str(t.action), round(t.start_s, 6), round(t.end_s, 6)) for t in timed]
            for worker, timed in timeline.rows.items()
        },
        predicted_peak_bytes={str(w): peak for w, peak in timeline.peak_bytes.items()},
        reason=reason or f"times are {profile.origin.get('times', 'given')}",
    )
