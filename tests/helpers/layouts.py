"""Every layout of a small case, and profiles to compare them on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise, product
from random import Random

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.span import Span


def layouts(
    num_layers: int, num_workers: int, num_micro_batches: int, schedule: Schedule
) -> Iterator[Plan]:
    """All plans of at most ``num_workers``: pipelines, splits, contiguous blocks; no routes.

    Blocks lie in the order of the pipelines, and every sequence of pipeline lengths occurs.
    """
    for lengths in _lengths(num_workers, num_layers):
        if len(lengths) > num_micro_batches:
            continue
        splits = product(*(list(_compositions(num_layers, length)) for length in lengths))
        blocks = list(_compositions(num_micro_batches, len(lengths)))
        for split, dealt in product(splits, blocks):
            worker = 0
            pipelines = []
            for spans, block in zip(split, dealt, strict=True):
                stages = []
                for span in spans:
                    stages.append(Stage(Span(*span), worker))
                    worker += 1
                pipelines.append(Pipeline(tuple(stages), tuple(range(*block))))
            yield Plan(tuple(pipelines), schedule)


def random_profile(rng: Random, num_layers: int) -> Profile:
    """Layers of different weight and a link of any speed, from free to dominant."""
    layers = []
    for number in range(num_layers):
        forward = rng.choice([0.5, 1.0, 1.0, 2.0]) * 1e-2
        size = rng.choice([1000, 4000])
        layers.append(
            Layer(
                f"layer{number}",
                param_bytes=size,
                grad_bytes=size,
                state_bytes=2 * size,
                activation_bytes=rng.choice([2000, 8000]),
                output_bytes=rng.choice([100, 1000]),
                forward_s=forward,
                backward_s=2 * forward,
                input_s=forward,
                weight_s=forward,
                step_s=1e-3,
                split=True,
            )
        )
    speed = rng.choice([1e9, 1e6, 1e5])
    return Profile(tuple(layers), Link(rng.choice([1e-5, 1e-3]), speed), add_bytes_per_s=1e8)


def _lengths(num_workers: int, longest: int) -> Iterator[tuple[int, ...]]:
    yield from (
        (first, *rest)
        for first in range(1, min(num_workers, longest) + 1)
        for rest in [(), *_lengths(num_workers - first, longest)]
    )


def _compositions(total: int, parts: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """``total`` things in ``parts`` runs of at least one, as (first, last) pairs."""
    for cuts in combinations(range(1, total), parts - 1):
        yield tuple(pairwise([0, *cuts, total]))
