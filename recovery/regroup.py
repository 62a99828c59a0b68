"""From a new plan and what everybody holds to everybody's orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ithaca.planner.plan import Plan
from ithaca.planner.program import Compute
from ithaca.planner.schedule import programs
from ithaca.recovery.orders import Orders
from ithaca.recovery.salvage import SalvageError, keeps, rest_of_step
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Rounds
from ithaca.recovery.tally import Tally


@dataclass(frozen=True, slots=True)
class Regrouping:
    """How a new generation begins.

    Attributes:
        orders: of every worker in the plan, and of those that only give state away.
        redone_by: by worker, what it computes of what lost workers had in the step under way.
    """

    orders: Mapping[int, Orders]
    redone_by: Mapping[int, tuple[Compute, ...]] = field(default_factory=dict)

    @property
    def redone(self) -> tuple[Compute, ...]:
        """All that is computed again."""
        return tuple(compute for each in self.redone_by.values() for compute in each)


def regroup(
    plan: Plan,
    standings: Mapping[int, Standing],
    *,
    moves: Rounds = (),
    anew: bool = False,
    ties: Iterable[tuple[int, int]] = (),
    split: Sequence[bool] | None = None,
    before: Plan | None = None,
) -> Regrouping:
    """The orders that take the workers of ``plan`` from where they stand into it.

    A step that one worker has committed is rolled forward on the others: they have voted, so
    they hold its reduced gradients. A step that nobody has committed goes on with what is held.
    If somebody's part of it is corrupt, or state moves, it begins anew.

    Args:
        plan: of the new generation.
        standings: of everybody in it, and of whoever gives state away.
        moves: of state; a step under way begins anew behind them.
        anew: begin the step under way anew, although something of it is held.
        ties: pairs of layers that share a weight.
        split: per layer, whether I + W may replace B.
        before: the plan that was in force, to tell what is computed again.

    Raises:
        SalvageError: the standings are not those of one step.
    """
    pairs = tuple(ties)
    step = max(standings[worker].step for worker in plan.workers)
    givers = {move.source for round_ in moves for move in round_}
    members = tuple(sorted(givers.union(plan.workers)))
    here = {worker: standings[worker] for worker in members}
    behind = {w for w, standing in here.items() if standing.begun and standing.step < step}
    for worker in behind:
        _check_rolls(here[worker], step)
    tally = _tally(standings, step) if behind else None
    now = {worker: standing.at(step) for worker, standing in here.items()}
    _check_whole(plan, now, moves)
    begun = any(standing.begun for standing in now.values())
    discard = anew or bool(moves) or any(standing.corrupt for standing in now.values())
    steady = programs(plan, ties=pairs, split=split)
    orders = {
        worker: Orders(
            plan,
            steady.get(worker),
            step,
            members,
            tally=tally if worker in behind else None,
            discard=discard,
            moves=moves,
        )
        for worker in members
    }
    if not begun or discard:
        return Regrouping(orders)
    rest = rest_of_step(plan, now, ties=pairs, split=split, before=before)
    orders = {worker: replace(o, rest=rest.programs[worker]) for worker, o in orders.items()}
    return Regrouping(orders, rest.redone)


def _tally(standings: Mapping[int, Standing], step: int) -> Tally:
    known = [s.tally for s in standings.values() if s.step == step and s.tally is not None]
    if not known:
        raise SalvageError(f"step {step - 1} was committed, but nobody tells its tally")
    return known[0]


def _check_whole(plan: Plan, now: Mapping[int, Standing], moves: Rounds) -> None:
    """Everybody must have its layers, or get them."""
    coming = {(move.target, move.layer) for round_ in moves for move in round_}
    for worker in plan.workers:
        there = now[worker].layers
        lacking = [i for i in plan.held(worker) if i not in there and (worker, i) not in coming]
        if lacking:
            raise SalvageError(
                f"worker {worker} does not hold the newest state of layers {lacking} of its part, "
                "and nobody sends it"
            )


def _check_rolls(standing: Standing, step: int) -> None:
    """The worker must be able to do all that is missing: STEP."""
    lacking = sorted(standing.summed.keys() - standing.reduced)
    if standing.step != step - 1 or lacking:
        raise SalvageError(
            f"worker {standing.worker} has committed {standing.step} steps, another one {step}, "
            f"and the gradients of layers {lacking} are not reduced here"
        )


def at_once(plan: Plan, moves: Rounds, standings: Mapping[int, Standing]) -> bool:
    """Whether ``plan`` can be entered now, or only when the step under way has ended.

    Between steps everything can. In a step nobody may lose what it has begun, and no state moves:
    it changes with the step.
    """
    step = max(standing.step for standing in standings.values())
    now = [standing.at(step) for standing in standings.values()]
    behind = any(standing.step < step and standing.begun for standing in standings.values())
    if not (behind or any(standing.begun for standing in now)):
        return True
    return not moves and keeps(plan, {standing.worker: standing for standing in now})


def current(standings: Mapping[int, Standing]) -> dict[int, frozenset[int]]:
    """The layers whose newest committed state each worker has, or will have once rolled forward."""
    step = max(standing.step for standing in standings.values())
    return {worker: standing.at(step).layers for worker, standing in standings.items()}
