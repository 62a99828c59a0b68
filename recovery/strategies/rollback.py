"""Rollback: everybody starts again from the newest checkpoint, on the best layout for who is left.

The answer when no worker has the state of some layer any more, and the last one before refusing
when nothing else helped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ithaca.planner.layout import NoLayoutError
from ithaca.recovery.forecast import candidate
from ithaca.recovery.moves import seated
from ithaca.recovery.strategies.reroute import shares
from ithaca.recovery.strategies.reshape import layouts
from ithaca.recovery.strategy import Candidate, Situation, StrategyName


class Rollback:
    """The checkpoint, on the fastest layout that fits."""

    name = StrategyName.ROLLBACK

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """One candidate, if there is a checkpoint and anybody left.

        Where every layer has a holder the layout is not looked for anew: others are better then.
        """
        step = situation.checkpoint_step
        if step is None or not situation.available:
            return
        # State comes from files: for this plan everybody holds everything.
        everything = frozenset(range(situation.plan.num_layers))
        loaded = replace(
            situation, holdings=dict.fromkeys((*situation.survivors, *situation.spares), everything)
        )
        try:
            options = layouts(loaded) if situation.orphans else shares(situation) or layouts(loaded)
            found = [candidate(self.name, plan, loaded) for plan in options]
        except NoLayoutError as error:
            yield Candidate(
                self.name, None, peak_bytes=error.smallest_bytes, feasible=False, reason=str(error)
            )
            return
        best = min(found, key=lambda one: (not one.feasible, one.step_s))
        seats = best.plan
        assert seats is not None, "a layout has a plan"
        again = situation.step - step
        yield replace(
            best,
            plan=seated(seats, situation.available, situation.there, situation.profile),
            transition_s=situation.regroup_s + situation.restore_s + again * best.step_s,
            reason=best.reason or f"back to step {step}: {again} steps are computed again",
            rollback_step=step,
        )
