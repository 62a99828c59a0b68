"""Auto layout: pipelines x stages x layer split x micro-batches for a Profile and N workers.

Every set of pipeline lengths (all partitions for few workers, nearly equal lengths for many) is
given micro-batches so that its pipelines end together, layers by :mod:`ithaca.planner.balance`,
and an estimate of its step. The best by estimate are simulated, and the best of those is improved
by moving single layers and micro-batches while that helps and simulations are left.

Not proved optimal: blocks of micro-batches are contiguous, routes are not used, and beyond the
estimates only finalists are looked at. On small cases the tests compare with all layouts.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate

from ithaca.planner.balance import Balancer, Duty
from ithaca.planner.deal import aligned, blocks, counts, lengths, nodes
from ithaca.planner.memory import copies
from ithaca.planner.neighbours import neighbours
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span

FINALISTS = 8
"""Layouts that are simulated, at most."""

SIMULATED_COMPUTES = 8_000
"""Computes that all simulations of one search may have together, a few tenths of a second."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout and what is predicted for it.

    Attributes:
        plan: its workers are 0 to n - 1.
        step_s: simulated seconds of a step.
        peak_bytes: the most memory any worker needs.
    """

    plan: Plan
    step_s: float
    peak_bytes: int


class NoLayoutError(ValueError):
    """No layout fits into the memory limit.

    Attributes:
        smallest_bytes: the least limit per worker under which the search finds a layout.
    """

    def __init__(self, message: str, smallest_bytes: int) -> None:
        super().__init__(message)
        self.smallest_bytes = smallest_bytes

    def __reduce__(self) -> tuple[type[NoLayoutError], tuple[str, int]]:
        return type(self), (str(self), self.smallest_bytes)


def search(
    profile: Profile,
    num_workers: int,
    num_micro_batches: int,
    memory_limit_bytes: int | None = None,
    schedule: Schedule = Schedule.ONE_F_ONE_B,
    *,
    ties: Iterable[tuple[int, int]] = (),
    exact: bool = True,
) -> tuple[Candidate, ...]:
    """The simulated layouts, fastest first; the first one's plan is the answer.

    Fewer than ``num_workers`` are used only where that is predicted to be faster, or where there
    are not enough layers and micro-batches for all.

    Args:
        profile: of the workload.
        num_workers: available.
        num_micro_batches: of one step, dealt as contiguous blocks, at least one per pipeline.
        memory_limit_bytes: per worker, compared with an upper bound of ``planner.memory``; None
            for no limit.
        schedule: of the plans.
        ties: pairs of layers that share a weight.
        exact: sums in the fixed tree, or plain all-reduce.

    Raises:
        NoLayoutError: nothing fits; the message has the smallest limit that would.
        ValueError: there are no layers, workers or micro-batches.
    """
    if min(num_workers, num_micro_batches, len(profile.layers)) < 1:
        raise ValueError(
            f"a layout needs layers, workers and micro-batches, not {len(profile.layers)}, "
            f"{num_workers} and {num_micro_batches}"
        )
    job = _Job(profile, num_micro_batches, memory_limit_bytes, schedule, tuple(ties), exact)
    drafts = job.drafts(num_workers)
    if not drafts:
        raise job.nothing_fits(num_workers)
    found = job.finals(drafts)
    found.append(job.improve(min(found, key=_rank)))
    unique = {str(candidate.plan): candidate for candidate in found}
    return tuple(sorted(unique.values(), key=_rank))


def _rank(candidate: Candidate) -> tuple[float, int, int]:
    """Faster first; then more workers, then less memory."""
    return candidate.step_s, -len(candidate.plan.workers), candidate.peak_bytes


@dataclass(frozen=True, slots=True)
class _Draft:
    """A layout before its plan is made, with the estimate of its step."""

    seconds: float
    idle: int
    duties: tuple[Duty, ...]
    blocks: tuple[range, ...]

    @property
    def rank(self) -> tuple[float, int, list[int]]:
        """Faster first; then fewer idle workers, then fewer pipelines."""
        return self.seconds, self.idle, [duty.stages for duty in self.duties]


class _Job:
    """One search: its inputs, the work memoised over candidates, and the budget left."""

    def __init__(
        self,
        profile: Profile,
        num_micro_batches: int,
        limit: int | None,
        schedule: Schedule,
        ties: tuple[tuple[int, int], ...],
        exact: bool,
    ) -> None:
        self._profile = profile
        self._total = num_micro_batches
        self._limit = math.inf if limit is None else limit
        self._schedule = schedule
        self._ties = ties
        self._exact = exact
        self._budget = SIMULATED_COMPUTES
        self._balancer = Balancer(profile, schedule, exact=exact)
        self._fill_s = sum(layer.forward_s + layer.backward_s for layer in profile.layers)
        self._step_s = [0.0, *accumulate(layer.step_s for layer in profile.layers)]
        self._grad_bytes = [0, *accumulate(layer.grad_bytes for layer in profile.layers)]
        self._fastest = cache(self._balancer.fastest)
        self._roughly = cache(self._rough_seconds)
        self._copies = cache(lambda low, high: copies(range(low, high), num_micro_batches))

    def drafts(self, num_workers: int) -> list[_Draft]:
        """The layouts that fit with the best estimates, best first; as many as are simulated.

        Without the memory limit an estimate can only be better; so once enough layouts that fit
        are known, those that are worse even without the limit need not be fitted.
        """
        hopeful = []
        for stages, dealt, duties in self._deals(num_workers):
            seconds = self._estimate(duties, [self._fastest(_any(n), math.inf) for n in stages])
            hopeful.append(_Draft(seconds, num_workers - sum(stages), duties, dealt))
        hopeful.sort(key=lambda draft: draft.rank)
        found: list[_Draft] = []
        for draft in hopeful:
            if len(found) >= FINALISTS and draft.rank >= found[FINALISTS - 1].rank:
                break
            splits = [split for duty in draft.duties if (split := self._split(duty))]
            if len(splits) == len(draft.duties):
                seconds = self._estimate(draft.duties, splits)
                insort(found, replace(draft, seconds=seconds), key=lambda draft: draft.rank)
        return found

    def nothing_fits(self, num_workers: int) -> NoLayoutError:
        """The error that names the smallest limit under which there is a layout."""
        leanest = cache(self._balancer.leanest)
        best = min(
            (max(map(leanest, duties)), stages) for stages, _, duties in self._deals(num_workers)
        )
        smallest = math.ceil(best[0])
        lengths_text = " + ".join(map(str, best[1]))
        return NoLayoutError(
            f"no layout of {len(self._profile.layers)} layers on {num_workers} workers fits into "
            f"{self._limit} bytes per worker; the leanest one, pipelines of {lengths_text} "
            f"stages, needs {smallest}; allow that much, or use more workers or smaller "
            "micro-batches",
            smallest,
        )

    def finals(self, drafts: list[_Draft]) -> list[Candidate]:
        """The best drafts, simulated; at least one."""
        found: list[Candidate] = []
        for draft in drafts[:FINALISTS]:
            plan = self._plan(draft)
            if found and self._price(plan) > self._budget:
                continue
            found.append(self._simulated(plan))
        return found

    def improve(self, best: Candidate) -> Candidate:
        """Better neighbours of ``best``, as long as there are some and budget is left."""
        seen = {str(best.plan)}
        better = True
        while better:
            better = False
            for plan in neighbours(best.plan):
                if self._price(plan) > self._budget:
                    return best
                if str(plan) in seen:
                    continue
                seen.add(str(plan))
                candidate = self._simulated(plan)
                if candidate.peak_bytes <= self._limit and _rank(candidate) < _rank(best):
                    best, better = candidate, True
                    break
        return best

    def _deals(
        self, num_workers: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[range, ...], tuple[Duty, ...]]]:
        """Lengths of pipelines with the micro-batches of each.

        Blocks that end together; and, if memory is limited, blocks that are nodes of the tree.
        """
        for stages in lengths(num_workers, len(self._profile.layers), self._total):
            options = [blocks(counts(stages, self._total, self._roughly))]
            if self._limit < math.inf:
                options.append(aligned(len(stages), self._total))
            for dealt in dict.fromkeys(options):
                yield stages, dealt, self._duties(stages, dealt)

    def _duties(self, stages: tuple[int, ...], dealt: tuple[range, ...]) -> tuple[Duty, ...]:
        left = [nodes(block.start, block.stop, self._total) for block in dealt]
        return tuple(
            Duty(
                length,
                len(block),
                self._copies(block.start, block.stop),
                own,
                len(stages),
                sum(left),
            )
            for length, block, own in zip(stages, dealt, left, strict=True)
        )

    def _rough_seconds(self, stages: int, micro_batches: int) -> float:
        """Seconds of a pipeline without regard to memory, to deal micro-batches by."""
        split = self._fastest(_any(stages), math.inf)
        assert split is not None, "without a limit everything fits"
        return self._pipeline_s(stages, micro_batches, *split)

    def _split(self, duty: Duty) -> tuple[float, tuple[Span, ...]] | None:
        """The fastest split that fits; without a limit it depends on the length alone."""
        return self._fastest(_any(duty.stages) if self._limit == math.inf else duty, self._limit)

    def _pipeline_s(
        self, stages: int, micro_batches: int, slowest: float, spans: tuple[Span, ...]
    ) -> float:
        layers, link = self._profile.layers, self._profile.link
        crossing = sum(link.seconds(layers[span.first - 1].output_bytes) for span in spans[1:])
        fill = self._fill_s + 2 * crossing
        if self._schedule is Schedule.ONE_F_ONE_B_SPLIT:
            # Zero Bubble H1: filling and draining cost a forward per further stage.
            forward = sum(layer.forward_s for layer in layers)
            fill = slowest + (stages - 1) * forward / stages + 2 * crossing
        return fill + (micro_batches - 1) * slowest

    def _estimate(
        self, duties: tuple[Duty, ...], splits: Sequence[tuple[float, tuple[Span, ...]] | None]
    ) -> float:
        """Seconds of the step: the slowest pipeline, then the largest reduction and step."""
        longest = tail = 0.0
        for duty, split in zip(duties, splits, strict=True):
            assert split is not None, "only what fits is estimated"
            longest = max(longest, self._pipeline_s(duty.stages, duty.micro_batches, *split))
            for span in split[1]:
                size = self._grad_bytes[span.last] - self._grad_bytes[span.first]
                step_s = self._step_s[span.last] - self._step_s[span.first]
                tail = max(tail, step_s + self._reduce_s(duty, size))
        return longest + tail

    def _reduce_s(self, duty: Duty, size: int) -> float:
        link, workers = self._profile.link, duty.pipelines
        chunk = size / workers
        messages = (workers - 1) * (duty.nodes + 1 if self._exact else 2)
        additions = (duty.all_nodes - 1) * chunk / self._profile.add_bytes_per_s
        return messages * link.seconds(math.ceil(chunk)) + additions

    def _plan(self, draft: _Draft) -> Plan:
        worker = 0
        pipelines = []
        for duty, block in zip(draft.duties, draft.blocks, strict=True):
            split = self._split(duty)
            assert split is not None, "a draft fits"
            stages = []
            for span in split[1]:
                stages.append(Stage(span, worker))
                worker += 1
            pipelines.append(Pipeline(tuple(stages), tuple(block)))
        return Plan(tuple(pipelines), self._schedule)

    def _price(self, plan: Plan) -> int:
        return sum(len(p.stages) * len(p.micro_batches) * 2 for p in plan.pipelines)

    def _simulated(self, plan: Plan) -> Candidate:
        self._budget -= self._price(plan)
        made = programs(plan, self._profile.layers, self._ties)
        timeline = simulate(made, self._profile, exact=self._exact)
        return Candidate(plan, timeline.step_s, max(timeline.peak_bytes.values()))


def _any(stages: int) -> Duty:
    """A pipeline of this length, for questions in which memory does not count."""
    return Duty(stages, 1, (1,), 1, 1, 1)
