"""What a plan of any size is predicted to need: seconds of a step, bytes of each worker.

The same as simulating all Programs, within parts of a percent, without making them: the computes
come from :mod:`ithaca.planner.clusters`, and reductions, ties, commit and step are gone through
once with a clock for each worker. Detours and shadows count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from ithaca.planner.clusters import Computed, computed
from ithaca.planner.costs import VOTE_BYTES, reduce_s, tie_s
from ithaca.planner.footprint import Footprint
from ithaca.planner.layout import cuts_of
from ithaca.planner.memory import num_partials, peak_bytes
from ithaca.planner.pace import Pace
from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Action, Reduce, Share, Step, Tie
from ithaca.planner.rounds import Piece, rounds
from ithaca.planner.span import Span


@dataclass(frozen=True, slots=True)
class Outlook:
    """Predictions for a plan.

    Attributes:
        step_s: seconds of a step.
        peak_bytes: per worker, the most memory it holds at once.
    """

    step_s: float
    peak_bytes: Mapping[int, int]


def outlook(
    plan: Plan,
    profile: Profile,
    *,
    exact: bool = True,
    ties: Iterable[tuple[int, int]] = (),
) -> Outlook:
    """Predict a step of ``plan``.

    Args:
        plan: with or without detours and shadows.
        profile: of its layers.
        exact: sums in the fixed tree, or plain all-reduce.
        ties: pairs of layers that share a weight.

    Raises:
        ValueError: the profile has another number of layers.
    """
    if plan.num_layers != len(profile.layers):
        raise ValueError(
            f"the plan has {plan.num_layers} layers, the profile {len(profile.layers)}"
        )
    done = computed(plan, profile, exact=exact)
    reductions = _reductions(plan, done, exact=exact)
    step_s = _step_s(plan, profile, done, reductions, tuple(ties))
    return Outlook(step_s, _peaks(plan, profile, done, reductions, exact=exact))


@dataclass(frozen=True, slots=True)
class _Reduction:
    """One REDUCE: its layers, who brings which micro-batches, and how many partial sums that is."""

    layers: Span
    shares: Mapping[int, tuple[int, ...]]
    most: int
    total: int

    def arriving(self, size: int) -> int:
        """Bytes that a worker receives of ``size`` bytes of gradients."""
        count = len(self.shares)
        return 0 if count == 1 else self.total * -(-size // count)

    def action(self) -> Reduce:
        """As it stands in the Programs."""
        return Reduce(self.layers, tuple(Share(*share) for share in sorted(self.shares.items())))


def _reductions(plan: Plan, done: Computed, *, exact: bool) -> list[_Reduction]:
    """The same as ``planner.schedule`` makes, in the same order."""
    total = plan.num_micro_batches
    found = {}
    waiting = []
    for (first, last), shares in _brought(plan).items():
        counts = [num_partials(ids, total) if ids else 0 for ids in shares.values()]
        most, every = (max(counts), sum(counts)) if exact else (1, len(counts))
        found[first] = _Reduction(Span(first, last), shares, most, every)
        ready = max(done.finish[worker] for worker in shares)
        waiting.append(Piece(first, last, ready, tuple(shares)))
    return [found[piece.first] for piece in rounds(waiting)]


def _brought(plan: Plan) -> dict[tuple[int, int], dict[int, tuple[int, ...]]]:
    """For each span that is reduced in one piece, who brings which micro-batches."""
    held = (*plan.stages(), *plan.shadows)
    spans = [stage.layers for stage in held] + [route.layers for route in plan.routes]
    borders = sorted({border for span in spans for border in (span.first, span.last)})
    place = {border: index for index, border in enumerate(borders)}
    pieces = list(pairwise(borders))
    found: list[dict[int, tuple[int, ...]]] = [{} for _ in pieces]
    for shadow in plan.shadows:
        for index in range(place[shadow.layers.first], place[shadow.layers.last]):
            found[index][shadow.worker] = ()
    moved: dict[tuple[int, int], set[int]] = {}  # by piece and who gives or takes it
    homes = {mb: pipeline for pipeline in plan.pipelines for mb in pipeline.micro_batches}
    for route in plan.routes:
        for index in range(place[route.layers.first], place[route.layers.last]):
            home = homes[route.micro_batch].stages
            own = next(stage.worker for stage in home if borders[index] in stage.layers)
            for worker in (own, route.worker) if own != route.worker else ():
                moved.setdefault((index, worker), set()).add(route.micro_batch)
    for pipeline in plan.pipelines:
        ids = tuple(sorted(pipeline.micro_batches))
        for stage in pipeline.stages:
            for index in range(place[stage.layers.first], place[stage.layers.last]):
                found[index][stage.worker] = ids
    for (index, worker), given_or_taken in moved.items():
        before = set(found[index].get(worker, ()))
        found[index][worker] = tuple(sorted(before ^ given_or_taken))
    return dict(zip(pieces, found, strict=True))


def _step_s(
    plan: Plan,
    profile: Profile,
    done: Computed,
    reductions: Sequence[_Reduction],
    ties: Sequence[tuple[int, int]],
) -> float:
    now = dict(done.ends)
    size = [0, *accumulate(layer.grad_bytes for layer in profile.layers)]
    step = [0.0, *accumulate(layer.step_s for layer in profile.layers)]
    action_s = profile.action_s

    def gather(members: Collection[int], seconds: float) -> None:
        end = max(now[worker] for worker in members) + action_s + seconds
        now.update(dict.fromkeys(members, end))

    for one in reductions:
        count, bytes_ = len(one.shares), size[one.layers.last] - size[one.layers.first]
        gather(one.shares, reduce_s(profile, bytes_, count, one.most, one.total))
    for lower, upper in sorted((min(pair), max(pair)) for pair in ties):
        tie = Tie(lower, upper, plan.holders(lower), plan.holders(upper))
        gather(tie.workers, tie_s(profile, tie))
    workers = plan.workers
    gather(workers, (len(workers) - 1) * profile.link.seconds(VOTE_BYTES))
    for stage in (*plan.stages(), *plan.shadows):
        now[stage.worker] += action_s + step[stage.layers.last] - step[stage.layers.first]
    return max(now.values())


def _peaks(
    plan: Plan,
    profile: Profile,
    done: Computed,
    reductions: Sequence[_Reduction],
    *,
    exact: bool,
) -> dict[int, int]:
    footprint = Footprint(profile, exact=exact)
    reduced: dict[int, list[tuple[int, int]]] = {worker: [] for worker in plan.workers}
    for one in reductions:
        size = footprint.gradient_bytes(one.layers.first, one.layers.last)
        for worker in one.shares:
            reduced[worker].append((size, one.arriving(size)))
    extra = dict.fromkeys(plan.workers, 0)
    for shadow in plan.shadows:
        extra[shadow.worker] += footprint.static_bytes(shadow.layers.first, shadow.layers.last)
    peaks = {w: extra[w] + footprint.reduction_peak(0, reduced[w]) for w in plan.workers}
    pace = Pace(profile, plan.schedule)
    known: dict[tuple[object, ...], int] = {}
    for pipeline in plan.pipelines:
        cuts = cuts_of([stage.layers for stage in pipeline.stages])
        sums = done.sums.get(pipeline)
        for place, stage in enumerate(pipeline.stages):
            parts = tuple(reduced[stage.worker])
            key = (cuts, sums, place, parts)
            if key not in known and sums is not None:
                order = pace.order(cuts, len(sums.after))
                known[key] = footprint.stage_peak(cuts, place, order, sums, parts)
            elif key not in known:  # it computes nothing, or has a Program
                static = footprint.static_bytes(stage.layers.first, stage.layers.last)
                known[key] = static + footprint.reduction_peak(0, parts)
            peaks[stage.worker] = extra[stage.worker] + known[key]
    return peaks | _peaks_of_programs(plan, profile, done, reductions, exact=exact)


def _peaks_of_programs(
    plan: Plan,
    profile: Profile,
    done: Computed,
    reductions: Sequence[_Reduction],
    *,
    exact: bool,
) -> dict[int, int]:
    """Peaks of workers in clusters with detours, by their Programs."""
    actions: dict[int, list[Action]] = {w: list(p.actions) for w, p in done.programs.items()}
    for one in reductions:
        if members := one.shares.keys() & actions.keys():
            action = one.action()
            for worker in members:
                actions[worker].append(action)
    for stage in (*plan.stages(), *plan.shadows):
        if stage.worker in actions:
            actions[stage.worker].append(Step(stage.layers))
    return {
        worker: peak_bytes(replace(program, actions=tuple(actions[worker])), profile, exact=exact)
        for worker, program in done.programs.items()
    }
