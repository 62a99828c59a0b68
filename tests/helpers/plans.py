"""Random plans for property tests: a fast seeded generator, and hypothesis strategies on it.

They cover uneven stages, pipelines of unequal length, pipelines without micro-batches, more and
fewer micro-batches than stages, ids dealt at random, detours, ties and layers that do not split.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.span import Span


@dataclass(frozen=True)
class Case:
    """A plan and what ``programs`` wants besides."""

    plan: Plan
    ties: tuple[tuple[int, int], ...]
    split: tuple[bool, ...]


def random_plan(
    rng: Random, *, max_layers: int = 7, max_pipelines: int = 4, max_micro_batches: int = 9
) -> Plan:
    """A valid plan, small enough that thousands run in seconds."""
    num_layers = rng.randint(1, max_layers)
    num_pipelines = rng.randint(1, max_pipelines)
    lengths = [rng.randint(1, min(num_layers, 4)) for _ in range(num_pipelines)]
    workers = rng.sample(range(sum(lengths) + rng.randint(0, 3)), sum(lengths))
    homes = _deal(rng, rng.randint(1, max_micro_batches), num_pipelines)
    pipelines = []
    for length, ids in zip(lengths, homes, strict=True):
        cuts = sorted(rng.sample(range(1, num_layers), length - 1))
        borders = [0, *cuts, num_layers]
        stages = tuple(
            Stage(Span(borders[k], borders[k + 1]), workers.pop()) for k in range(length)
        )
        pipelines.append(Pipeline(stages, ids))
    return Plan(
        tuple(pipelines),
        rng.choice(list(Schedule)),
        generation=rng.randint(0, 5),
        routes=_routes(rng, pipelines),
        shadows=_shadows(rng, pipelines),
    )


def random_case(rng: Random) -> Case:
    """A random plan with ties and layers that may not split."""
    plan = random_plan(rng)
    ties = random_ties(rng, plan.num_layers, rng.choice([0, 0, 1, 2]))
    odds = rng.choice([0.0, 0.2, 1.0])
    return Case(plan, ties, tuple(rng.random() >= odds for _ in range(plan.num_layers)))


def random_ties(rng: Random, num_layers: int, most: int) -> tuple[tuple[int, int], ...]:
    """At most ``most`` pairs of layers, none in two: a weight can be tied to one other only."""
    layers = rng.sample(range(num_layers), min(2 * most, num_layers // 2 * 2))
    pairs = zip(layers[::2], layers[1::2], strict=True)
    return tuple((min(pair), max(pair)) for pair in pairs)


def plans() -> st.SearchStrategy[Plan]:
    """Valid plans; shrinks towards small seeds, not towards small plans."""
    return st.integers(0, 2**32).map(lambda seed: random_plan(Random(seed)))


def cases() -> st.SearchStrategy[Case]:
    """Valid plans with ties and split flags."""
    return st.integers(0, 2**32).map(lambda seed: random_case(Random(seed)))


def _deal(rng: Random, count: int, num_pipelines: int) -> list[tuple[int, ...]]:
    """Micro-batches 0 to ``count`` - 1 as contiguous blocks or at random; some may get none."""
    if rng.random() < 0.5:
        cuts = sorted(rng.randint(0, count) for _ in range(num_pipelines - 1))
        borders = [0, *cuts, count]
        return [tuple(range(borders[k], borders[k + 1])) for k in range(num_pipelines)]
    homes: list[list[int]] = [[] for _ in range(num_pipelines)]
    for micro_batch in range(count):
        rng.choice(homes).append(micro_batch)
    return [tuple(home) for home in homes]


def _shadows(rng: Random, pipelines: list[Pipeline]) -> tuple[Stage, ...]:
    """Second holders: workers of the plan or others, with layers that they do not have yet."""
    if rng.random() < 0.7:
        return ()
    stages = [stage for pipeline in pipelines for stage in pipeline.stages]
    newcomer = max(stage.worker for stage in stages) + 1
    shadows = []
    for worker in rng.sample([*(stage.worker for stage in stages), newcomer], min(2, len(stages))):
        held = {layer for s in stages if s.worker == worker for layer in s.layers}
        source = rng.choice(stages).layers
        if not held.intersection(source):
            shadows.append(Stage(source, worker))
    return tuple(shadows)


def _routes(rng: Random, pipelines: list[Pipeline]) -> tuple[Route, ...]:
    """Detours of stages or of their first layers to another worker who holds these."""
    if rng.random() < 0.5:
        return ()
    stages = [stage for pipeline in pipelines for stage in pipeline.stages]
    share = rng.choice([0.2, 0.6, 1.0])
    routes = []
    for pipeline in pipelines:
        for stage in pipeline.stages:
            able = [
                other.worker
                for other in stages
                if other.layers.first <= stage.layers.first
                and stage.layers.last <= other.layers.last
                and other.worker != stage.worker
            ]
            for micro_batch in pipeline.micro_batches:
                if able and rng.random() < share:
                    last = rng.choice([stage.layers.last, rng.choice([*stage.layers]) + 1])
                    layers = Span(stage.layers.first, last)
                    routes.append(Route(micro_batch, layers, rng.choice(able)))
    rng.shuffle(routes)
    return tuple(routes)
