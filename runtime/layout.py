"""From the layout that a job asks for to a Plan, or to what is impossible about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice

from ithaca.planner.balance import Balancer, Duty
from ithaca.planner.deal import blocks, counts
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.profile import Profile
from ithaca.planner.search import NoLayoutError, search
from ithaca.planner.span import Span
from ithaca.runtime.config.job import Job, Numerics
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.config.units import format_size

MAX_SEARCHED = 16_384
"""More workers than this need a layout of their own: so many are searched for in seconds."""


def make_plan(
    job: Job,
    profile: Profile,
    num_workers: int | None = None,
    ties: Iterable[tuple[int, int]] = (),
) -> Plan:
    """The first plan of ``job``, generation 0, workers 0 to N-1 pipeline by pipeline.

    What ``layout`` gives is kept; what it leaves ``auto`` is chosen by the costs in ``profile``.

    Args:
        job: its ``layout`` and number of workers.
        profile: one entry per layer of the workload.
        num_workers: search for so many workers, whatever ``layout`` says.
        ties: pairs of layers that share a weight, for the search.

    Raises:
        BadValue: the layout is impossible for this workload; names the key that is to change.
    """
    layout = job.layout
    if num_workers is not None or not layout.stage_counts():
        return _searched(job, profile, num_workers or job.num_workers, ties)
    splits = _checked_split(job, profile) if layout.split != "auto" else _balanced(job, profile)
    dealt = _dealt(splits, profile, layout.micro_batches)
    pipelines, worker = [], 0
    for sizes, ids in zip(splits, dealt, strict=True):
        stages, first = [], 0
        for size in sizes:
            stages.append(Stage(Span(first, first + size), worker))
            first, worker = first + size, worker + 1
        pipelines.append(Pipeline(tuple(stages), tuple(ids)))
    return Plan(tuple(pipelines), layout.schedule)


def _searched(
    job: Job, profile: Profile, num_workers: int, ties: Iterable[tuple[int, int]]
) -> Plan:
    """The fastest plan that the planner finds; it may leave workers out that would not help."""
    layout = job.layout
    useful = min(num_workers, len(profile.layers) * layout.micro_batches)
    if useful > MAX_SEARCHED:
        raise BadValue(
            "cluster.workers",
            f"a layout for {num_workers} workers is not searched for, that would take long; give "
            f"layout.pipelines and layout.stages, or at most {MAX_SEARCHED} workers",
        )
    try:
        found = search(
            profile,
            useful,
            layout.micro_batches,
            layout.memory,
            layout.schedule,
            ties=ties,
            exact=job.numerics is Numerics.EXACT,
        )
    except NoLayoutError as error:
        smallest = format_size(-(-error.smallest_bytes // 2**20) * 2**20)
        raise BadValue(
            "layout.memory",
            f"is too little: no layout for {num_workers} workers fits into "
            f"{format_size(layout.memory or 0)} each; give {smallest} or more, or use more "
            "workers or smaller micro-batches",
        ) from error
    return found[0].plan


def _checked_split(job: Job, profile: Profile) -> list[tuple[int, ...]]:
    """The split that ``layout`` gives, if it holds the workload's layers."""
    assert job.layout.split != "auto"
    count = len(profile.layers)
    for index, sizes in enumerate(job.layout.split):
        if sum(sizes) != count:
            raise BadValue(
                f"layout.split.{index}",
                f"{list(sizes)} holds {sum(sizes)} layers, the workload has {count} "
                f"({_names(profile)}); make it add up to {count}, or write auto",
            )
    return list(job.layout.split)


def _balanced(job: Job, profile: Profile) -> list[tuple[int, ...]]:
    """For each pipeline the split with the fastest slowest stage, whatever memory it takes."""
    count, stages = len(profile.layers), job.layout.stage_counts()
    if max(stages) > count:
        raise BadValue(
            "layout.stages",
            f"{max(stages)} stages need as many layers, the workload has {count} "
            f"({_names(profile)}); use at most {count} stages, or a deeper model",
        )
    balancer = Balancer(profile, job.layout.schedule)
    splits = {number: _split(balancer, number) for number in set(stages)}
    return [splits[number] for number in stages]


def _split(balancer: Balancer, stages: int) -> tuple[int, ...]:
    # Without a limit on memory the rest of a duty changes nothing.
    duty = Duty(stages, micro_batches=1, copies=(1,), nodes=1, pipelines=1, all_nodes=1)
    found = balancer.fastest(duty, math.inf)
    assert found is not None, "there are at least as many layers as stages"
    return tuple(len(span) for span in found[1])


def _dealt(
    splits: Sequence[tuple[int, ...]], profile: Profile, num_micro_batches: int
) -> tuple[range, ...]:
    """A block of micro-batches for each pipeline, more for a faster one."""
    slowest = [_slowest_s(sizes, profile) for sizes in splits]

    def seconds(pipeline: int, micro_batches: int) -> float:
        return (micro_batches + len(splits[pipeline]) - 1) * slowest[pipeline]

    sizes = counts(range(len(splits)), num_micro_batches, seconds)
    return blocks(sizes)


def _slowest_s(sizes: Sequence[int], profile: Profile) -> float:
    layers = iter(profile.layers)
    return max(sum(x.forward_s + x.backward_s for x in islice(layers, size)) for size in sizes)


def _names(profile: Profile) -> str:
    names = [layer.name for layer in profile.layers]
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", names[-1]])
