"""Pipelines that share workers, because of detours; and what a step is until the reductions.

Pipelines without detours have nothing to do with each other before they reduce. So a plan falls
into clusters: pipelines on their own, of which alike ones are timed once, by recurrence; and those
that detours tie together, which are simulated, but without the rest of the plan. A step of
thousands of workers with a few of them lost takes as long to predict as that of their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from ithaca.planner.footprint import Sums, sums_of
from ithaca.planner.layout import cuts_of
from ithaca.planner.memory import PartialSums
from ithaca.planner.order import finish_of
from ithaca.planner.pace import Pace
from ithaca.planner.plan import Pipeline, Plan, Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.planner.simulate import simulate
from ithaca.planner.timetable import Timetable, parts_of, routes_of


@dataclass(slots=True)
class Computed:
    """All workers at the moment when they have done their computes.

    Attributes:
        ends: seconds until then.
        finish: the same on the scheduler's clock.
        programs: of those in clusters with detours, up to there.
        sums: per pipeline without detours, its partial sums.
    """

    ends: dict[int, float] = field(default_factory=dict)
    finish: dict[int, int] = field(default_factory=dict)
    programs: dict[int, Program] = field(default_factory=dict)
    sums: dict[Pipeline, Sums] = field(default_factory=dict)


def clusters(plan: Plan) -> list[tuple[Pipeline, ...]]:
    """The pipelines of ``plan``, together if detours make them share a worker."""
    home = {stage.worker: place for place, p in enumerate(plan.pipelines) for stage in p.stages}
    of = {mb: place for place, p in enumerate(plan.pipelines) for mb in p.micro_batches}
    leader = list(range(len(plan.pipelines)))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = place = leader[leader[place]]
        return place

    for route in plan.routes:
        own = find(of[route.micro_batch])
        leader[find(home.setdefault(route.worker, own))] = own
    found: dict[int, list[Pipeline]] = {}
    for place, pipeline in enumerate(plan.pipelines):
        found.setdefault(find(place), []).append(pipeline)
    return [tuple(pipelines) for pipelines in found.values()]


def computed(plan: Plan, profile: Profile, *, exact: bool) -> Computed:
    """When each worker of ``plan`` has done its computes."""
    routed = {route.micro_batch for route in plan.routes}
    result = Computed(dict.fromkeys(plan.workers, 0.0), dict.fromkeys(plan.workers, 0))
    alone: list[Pipeline] = []
    for cluster in clusters(plan):
        if any(mb in routed for pipeline in cluster for mb in pipeline.micro_batches):
            _play(plan, cluster, profile, result, exact=exact)
        elif cluster[0].micro_batches:
            alone += cluster
    _time(plan, alone, profile, result, exact=exact)
    return result


def _time(
    plan: Plan, alone: Iterable[Pipeline], profile: Profile, result: Computed, *, exact: bool
) -> None:
    """Pipelines on their own, alike ones once."""
    pace = Pace(profile, plan.schedule)
    total = plan.num_micro_batches
    alike: dict[tuple[tuple[int, ...], Sums], list[Pipeline]] = {}
    for pipeline in alone:
        sums = result.sums[pipeline] = sums_for(pipeline.micro_batches, total, exact=exact)
        cuts = cuts_of([stage.layers for stage in pipeline.stages])
        alike.setdefault((cuts, sums), []).append(pipeline)
    for (cuts, sums), pipelines in alike.items():
        ends = pace.ends([cuts], [sums.additions])[0].tolist()
        finish = finish_of(pace.flags(cuts), len(sums.after), plan.schedule)
        for pipeline in pipelines:
            for stage, end, done in zip(pipeline.stages, ends, finish, strict=True):
                result.ends[stage.worker], result.finish[stage.worker] = end, done


def _play(
    plan: Plan, cluster: tuple[Pipeline, ...], profile: Profile, result: Computed, *, exact: bool
) -> None:
    """Pipelines that share workers, simulated."""
    split = [
        layer.split and plan.schedule is Schedule.ONE_F_ONE_B_SPLIT for layer in profile.layers
    ]
    routes = routes_of(plan)
    own = {mb: routes.get(mb, []) for pipeline in cluster for mb in pipeline.micro_batches}
    workers = {stage.worker for pipeline in cluster for stage in pipeline.stages}
    workers |= {route.worker for detours in own.values() for route in detours}
    table = Timetable(sorted(workers), parts_of(cluster, own, split), plan.schedule)
    made = {
        worker: Program(
            worker,
            plan.generation,
            plan.num_layers,
            plan.num_micro_batches,
            tuple(table.actions[worker]),
        )
        for worker in sorted(workers)
    }
    timeline = simulate(made, profile, exact=exact)
    for worker, rows in timeline.rows.items():
        result.ends[worker] = rows[-1].end_s if rows else 0.0
        result.finish[worker] = table.finish[worker]
    result.programs.update(made)


@lru_cache(maxsize=1 << 13)
def sums_for(micro_batches: tuple[int, ...], num_micro_batches: int, *, exact: bool) -> Sums:
    """The partial sums of ``micro_batches``, completed in this order."""
    low, high = micro_batches[0], micro_batches[-1] + 1
    if not exact or micro_batches == tuple(range(low, high)):
        return sums_of(low, low + len(micro_batches), num_micro_batches, exact=exact)
    sums = PartialSums(num_micro_batches)
    after = []
    for micro_batch in micro_batches:
        sums.add(micro_batch)
        after.append(len(sums.nodes))
    return Sums(tuple(after))
