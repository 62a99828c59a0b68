"""Reshape: new pipelines, splits and shares over those who are left; the state moves there.

"Dynamic parallelism" of arXiv 2508.21613 looks for the fastest step alone. Here a candidate is
kept if no other one has both the faster step and the shorter way there, so that a small repair can
win when the next failure is near:

- *repairs* leave whole pipelines as they are and build new ones of everybody else, with splits
  from the fastest to the one that moves least;
- *layouts* are found by the planner's search for that many workers, and workers take the places
  for which they lack the fewest bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ithaca.planner import front as planner_front
from ithaca.planner.balance import Duty
from ithaca.planner.layout import Layout, NoLayoutError
from ithaca.planner.plan import Plan
from ithaca.recovery.cover import Chain, spans
from ithaca.recovery.forecast import candidate
from ithaca.recovery.moves import moves, seated, seconds
from ithaca.recovery.redundancy import kept
from ithaca.recovery.resplit import Resplitter
from ithaca.recovery.share import dealt
from ithaca.recovery.share import seconds as share_seconds
from ithaca.recovery.strategies.reroute import faster
from ithaca.recovery.strategy import Candidate, Situation, StrategyName

SIMULATED = 6
"""Plans of each kind that are simulated, at most."""

BOTH_SCHEDULES_UP_TO = 8
"""Up to so many workers layouts are looked for in both schedules."""


class Reshape:
    """Repairs of broken pipelines and whole new layouts."""

    name = StrategyName.RESHAPE

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """The front of (step time, transition time); what does not fit comes with the reason.

        Nothing if a layer has no holder.
        """
        if situation.orphans or not situation.available:
            return
        try:
            proposed = [*repairs(situation), *layouts(situation)]
        except NoLayoutError as error:
            yield Candidate(
                self.name, None, peak_bytes=error.smallest_bytes, feasible=False, reason=str(error)
            )
            return
        yield from (
            _with_kept(one, situation)
            for one in front([candidate(self.name, p, situation) for p in dict.fromkeys(proposed)])
        )


def _with_kept(one: Candidate, situation: Situation) -> Candidate:
    """``one`` with second holders that cost no move, if they fit into memory."""
    assert one.plan is not None, "a layout has a plan"
    if not one.feasible or not (more := kept(one.plan, situation)):
        return one
    safer = replace(one.plan, shadows=(*one.plan.shadows, *more))
    found = candidate(one.strategy, safer, situation, one.reason)
    return found if found.feasible else one


def front(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that nothing beats in step time and transition time; fastest first.

    Of the infeasible ones only the leanest is kept, to say what is missing.
    """
    best: list[Candidate] = []
    feasible = [c for c in candidates if c.feasible]
    for one in sorted(feasible, key=lambda c: (c.step_s, c.transition_s, c.peak_bytes)):
        if not best or one.transition_s < best[-1].transition_s:
            best.append(one)
    others = [c for c in candidates if not c.feasible]
    return (*best, *sorted(others, key=lambda c: c.peak_bytes)[:1])


def layouts(situation: Situation) -> Iterator[Plan]:
    """The planner's front for as many workers as there are, with the places taken.

    The schedule of the plan before is tried too where that costs little, or nothing else fits.

    Raises:
        NoLayoutError: nothing fits into memory; the message has the smallest limit that would.
    """
    plan, available = situation.plan, situation.available

    def seats(layout: Layout) -> Plan:
        made = layout.plan(available, plan.generation + 1)
        return seated(made, available, situation.there, situation.profile)

    fast, before = faster(situation), plan.schedule
    found = False
    for schedule in dict.fromkeys((fast, before)):
        if schedule is not fast and found and len(available) > BOTH_SCHEDULES_UP_TO:
            return
        try:
            options = planner_front.front(
                situation.profile,
                len(available),
                plan.num_micro_batches,
                limit=situation.memory_limit_bytes,
                schedule=schedule,
                exact=situation.exact,
                ties=situation.ties,
                standing=[tuple(s.layers for s in stages) for stages in _whole(situation)],
                transition=lambda layout: seconds(
                    moves(seats(layout), situation.there, situation.profile), situation.profile
                ),
            )
        except NoLayoutError:
            if not found and schedule is before:
                raise
            continue
        found = True
        yield from map(seats, options[:SIMULATED])


def _whole(situation: Situation) -> list[Chain]:
    """Pipelines of the plan that have lost nobody."""
    return [
        pipeline.stages
        for pipeline in situation.plan.pipelines
        if all(stage.worker in situation.staying for stage in pipeline.stages)
    ]


@dataclass(frozen=True)
class _Draft:
    plan: Plan
    step_s: float
    transition_s: float


def repairs(situation: Situation) -> tuple[Plan, ...]:
    """Whole pipelines stay, all others become new ones; the front by estimate."""
    drafts = sorted(_drafts(situation), key=lambda draft: (draft.step_s, draft.transition_s))
    best: list[_Draft] = []
    for draft in drafts:
        if not best or draft.transition_s < best[-1].transition_s:
            best.append(draft)
    return tuple(draft.plan for draft in best[:SIMULATED])


def _drafts(situation: Situation) -> Iterator[_Draft]:
    profile = situation.profile
    whole = _whole(situation)
    schedule = faster(situation)
    resplitter = Resplitter(situation, schedule)
    for taken in range(min(2, len(whole)) + 1):
        stay = whole[: len(whole) - taken]
        busy = {stage.worker for chain in stay for stage in chain}
        free = _in_order(situation, [w for w in situation.available if w not in busy])
        for number in range(1, taken + 3):
            for new in _rebuilt(resplitter, free, number, len(stay), situation):
                pipelines = next(dealt(situation, [*stay, *new]))
                made = _next(Plan(pipelines, schedule), situation)
                made = seated(made, made.workers, situation.there, profile) if new else made
                rounds = moves(made, situation.there, profile)
                step_s = max(
                    share_seconds(p.stages, len(p.micro_batches), profile)
                    for p in made.pipelines
                    if p.micro_batches
                )
                yield _Draft(made, step_s, seconds(rounds, profile))


def _rebuilt(
    resplitter: Resplitter, free: Sequence[int], number: int, beside: int, situation: Situation
) -> Iterator[tuple[Chain, ...]]:
    """``number`` pipelines of all ``free`` workers, split from the fastest to the least moved."""
    if not number <= len(free):
        return
    total = situation.plan.num_micro_batches
    groups = [free[place::number] for place in range(number)]
    pipelines = beside + number
    share = -(-total // pipelines)
    copies = share.bit_length() + 1
    options = [
        list(
            resplitter.chains(
                group,
                Duty(len(group), share, (copies,) * share, copies, pipelines, copies * pipelines),
            )
        )
        for group in groups
    ]
    if not all(options):
        return
    for place in range(max(map(len, options))):
        yield tuple(option[min(place, len(option) - 1)] for option in options)


def _in_order(situation: Situation, workers: Sequence[int]) -> list[int]:
    """``workers`` by the depth of what they hold; those without state where somebody was lost."""
    plan = situation.plan
    gone = [
        (stage.layers.first + stage.layers.last) / 2
        for stage in plan.stages()
        if stage.worker not in situation.staying
    ]
    middle = plan.num_layers / 2

    def depth(worker: int) -> float:
        runs = spans(situation.held(worker))
        if not runs:
            return gone.pop(0) if gone else middle
        longest = max(runs, key=len)
        return (longest.first + longest.last) / 2

    depths = {worker: depth(worker) for worker in workers}
    return sorted(workers, key=lambda worker: (depths[worker], worker))


def _next(plan: Plan, situation: Situation) -> Plan:
    return replace(plan, generation=situation.plan.generation + 1)
