"""Whole pipelines that workers can form from the layers they hold, without moving anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ithaca.planner.plan import Plan, Stage
from ithaca.planner.span import Span

TRIES = 2_000
"""Partial pipelines looked at, at most, for one more pipeline."""

Chain = tuple[Stage, ...]


def spans(layers: Iterable[int]) -> tuple[Span, ...]:
    """The runs of neighbouring numbers in ``layers``, ascending."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1]:
            runs[-1][1] = layer + 1
        else:
            runs.append([layer, layer + 1])
    return tuple(Span(first, last) for first, last in runs)


def chains(plan: Plan, held: Mapping[int, frozenset[int]]) -> tuple[Chain, ...]:
    """As many whole pipelines as are found with ``held``: worker to the layers it holds.

    Pipelines of ``plan`` that are still whole come first and as they were; the workers that are
    left form further ones, each with the stage it had before where that fits. A worker is in one
    pipeline only. Empty if no whole pipeline was found.
    """
    found = [
        pipeline.stages
        for pipeline in plan.pipelines
        if all(held.get(s.worker, frozenset()).issuperset(s.layers) for s in pipeline.stages)
    ]
    used = {stage.worker for chain in found for stage in chain}
    before = {stage.worker: stage.layers for stage in plan.stages()}
    while True:
        free = {worker: layers for worker, layers in held.items() if worker not in used and layers}
        chain = _chain(free, before, plan.num_layers)
        if not chain:
            return tuple(found)
        found.append(chain)
        used.update(stage.worker for stage in chain)


def shadows(chosen: Sequence[Chain], held: Mapping[int, frozenset[int]]) -> tuple[Stage, ...]:
    """What the workers hold beside their stages in ``chosen``."""
    staged = {stage.worker: stage.layers for chain in chosen for stage in chain}
    return tuple(
        Stage(span, worker)
        for worker in sorted(held)
        for span in spans(held[worker] - frozenset(staged.get(worker, ())))
    )


def _chain(
    held: Mapping[int, frozenset[int]], before: Mapping[int, Span], num_layers: int
) -> Chain | None:
    """One pipeline, depth first: as before if possible, then the worker that reaches furthest."""
    tries = TRIES

    def options(first: int, used: frozenset[int]) -> Iterator[tuple[int, int, int, int]]:
        for worker, layers in held.items():
            if worker in used or first not in layers:
                continue
            last = first
            while last in layers:
                last += 1
            was = before.get(worker)
            as_before = was is not None and was.first <= first < was.last
            if was is not None and was.first == first and was.last < last:
                yield 0, -was.last, worker, was.last
            yield (0 if as_before else 1), -last, worker, last

    def search(first: int, used: frozenset[int]) -> Chain | None:
        nonlocal tries
        if first == num_layers:
            return ()
        for *_, worker, last in sorted(options(first, used)):
            tries -= 1
            if tries < 0:
                return None
            rest = search(last, used | {worker})
            if rest is not None:
                return (Stage(Span(first, last), worker), *rest)
        return None

    return search(0, frozenset())
