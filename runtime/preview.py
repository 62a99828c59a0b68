"""What a job would do, without doing it: plan, programs, simulated step and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ithaca.planner.memory import Usage, usage
from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import Timeline, simulate
from ithaca.runtime.config.job import Numerics
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.engine.held import Model
from ithaca.runtime.estimate import CannotComputeError, static_profile
from ithaca.runtime.folder import earlier
from ithaca.runtime.layout import make_plan
from ithaca.runtime.measured import recall
from ithaca.runtime.workload import Workload


@dataclass(frozen=True, slots=True)
class Preview:
    """Everything that can be said about a job before it runs.

    Attributes:
        workload: built in this process.
        model: its layers and ties.
        profile: the layers' sizes, and their times as an earlier run of the job measured them;
            nominal times if there was none.
        plan: who would hold and compute what.
        programs: of one training step, by worker.
        timeline: that step, simulated.
        usage: memory by worker.
    """

    workload: Workload
    model: Model
    profile: Profile
    plan: Plan
    programs: Mapping[int, Program]
    timeline: Timeline
    usage: Mapping[int, Usage]


def preview(loaded: LoadedJob, num_workers: int | None = None) -> Preview:
    """Looks at ``loaded``; for ``num_workers`` workers with a layout of their own, if given.

    Raises:
        ConfigError: the workload cannot be built or computed, or the layout does not fit it.
    """
    workload = loaded.build_workload()
    try:
        model = Model(tuple(workload.layers()), tuple(workload.ties()))
        nominal = static_profile(workload, loaded.job)
        profile = _known(loaded, nominal)
    except (CannotComputeError, ValueError) as error:
        raise loaded.refuse(error, "workload") from error
    try:
        plan = make_plan(loaded.job, profile, num_workers, model.pairs())
    except BadValue as error:
        raise loaded.refuse(error) from error
    own = programs(plan, profile.layers, model.pairs())
    exact = loaded.job.numerics is Numerics.EXACT
    used = {worker: usage(program, profile, exact=exact) for worker, program in own.items()}
    timeline = simulate(own, profile, exact=exact)
    return Preview(workload, model, profile, plan, own, timeline, used)


def _known(loaded: LoadedJob, nominal: Profile) -> Profile:
    found = (recall(folder, loaded.config, nominal) for folder in earlier(loaded.job))
    return next((profile for profile in found if profile is not None), nominal)
