"""What a worker is told to do in a new generation."""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program
from ithaca.recovery.strategy import Rounds
from ithaca.recovery.tally import Tally


@dataclass(frozen=True, slots=True)
class Orders:
    """One worker's part of a new generation; carried out from top to bottom.

    Attributes:
        plan: of the generation.
        program: of every whole step; None for a worker outside the plan, which only gives state
            away and then stands still.
        step: that everybody is in, once rolled forward; whoever is new begins with it.
        members: everybody who meets: the plan's workers and those that give state away.
        tally: roll forward: the step under way was committed elsewhere with this tally, and all
            that is missing here is STEP. None if there is nothing to roll forward.
        discard: forget whatever is held of the step under way.
        moves: of state, in rounds; for everybody.
        rest: what is left of the step under way; None to begin a whole one.
    """

    plan: Plan
    program: Program | None
    step: int
    members: tuple[int, ...]
    tally: Tally | None = None
    discard: bool = False
    moves: Rounds = ()
    rest: Program | None = None
