"""From a new plan and what everybody holds to everybody's orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ithaca.planner.plan import Plan
from ithaca.planner.program import Compute
from ithaca.planner.schedule import programs
from ithaca.recovery.orders import Orders
from ithaca.recovery.salvage import SalvageError, rest_of_step
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Rounds
from ithaca.recovery.tally import Tally


@dataclass(frozen=True, slots=True)
class Regrouping:
    """How a new generation begins.

    Attributes:
        orders: of every worker in the plan.
        redone: what others compute of what lost workers had in the step under way.
    """

    orders: Mapping[int, Orders]
    redone: tuple[Compute, ...] = ()


def regroup(
    plan: Plan,
    standings: Mapping[int, Standing],
    *,
    moves: Rounds = (),
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
        standings: of everybody in it.
        moves: of state; only between steps.
        ties: pairs of layers that share a weight.
        split: per layer, whether I + W may replace B.
        before: the plan that was in force, to tell what is computed again.

    Raises:
        SalvageError: the standings are not those of one step.
    """
    pairs = tuple(ties)
    step = max(standings[worker].step for worker in plan.workers)
    tally = _tally(plan, standings, step)
    here = {worker: standings[worker] for worker in plan.workers}
    behind = {w for w, standing in here.items() if standing.layers and standing.step < step}
    for worker in behind:
        _check_rolls(here[worker], step)
    now = {
        worker: standing if standing.step == step else standing.fresh(step)
        for worker, standing in here.items()
    }
    begun = any(standing.begun for standing in now.values())
    discard = bool(moves) or any(standing.corrupt for standing in now.values())
    steady = programs(plan, ties=pairs, split=split)
    orders = {
        worker: Orders(
            plan,
            steady[worker],
            step,
            tally=tally if worker in behind else None,
            discard=discard,
            moves=moves,
        )
        for worker in plan.workers
    }
    if not begun or discard:
        return Regrouping(orders)
    rest = rest_of_step(plan, now, ties=pairs, split=split, before=before)
    orders = {worker: replace(o, rest=rest.programs[worker]) for worker, o in orders.items()}
    return Regrouping(orders, rest.redone)


def _tally(plan: Plan, standings: Mapping[int, Standing], step: int) -> Tally | None:
    known = [s.tally for s in standings.values() if s.step == step and s.tally is not None]
    if any(standings[w].step < step and standings[w].layers for w in plan.workers):
        if not known:
            raise SalvageError(f"step {step - 1} was committed, but nobody tells its tally")
        return known[0]
    return None


def _check_rolls(standing: Standing, step: int) -> None:
    """The worker must be able to do all that is missing: STEP."""
    lacking = sorted(standing.summed.keys() - standing.reduced)
    if standing.step != step - 1 or lacking or not standing.reduced:
        raise SalvageError(
            f"worker {standing.worker} has committed {standing.step} steps, another one {step}, "
            f"and the gradients of layers {lacking} are not reduced here"
        )
