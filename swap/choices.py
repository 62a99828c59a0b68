"""Choices for a whole step: what is swapped and computed again on top of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ithaca.swap.candidates import Candidates
from ithaca.swap.columns import Ints
from ithaca.swap.schedule import KEEP, RECOMPUTE, SWAP, Choice


def tightest_choice(candidates: Candidates) -> Choice:
    """The choice that needs the fewest bytes at its worst point, of a few that are extreme."""
    start = Choice.keep(candidates.columns)
    swap = with_swaps(start, candidates, candidates.swaps)
    # What is dropped and what is swapped are away equally long: swaps first, replays for the rest.
    choices = [start, swap]
    for blocks in (candidates.whole, candidates.blocks, ()):
        for base in (start, swap):
            computed = with_replays(base, blocks, only=KEEP)
            computed = with_replays(computed, candidates.cheap, only=KEEP)
            choices += [computed, with_swaps(computed, candidates, candidates.swaps)]
    return min(choices, key=lambda choice: int(choice.floor().max(initial=0)))


def with_swaps(choice: Choice, candidates: Candidates, which: Ints) -> Choice:
    """``choice`` with those of ``which`` swapped that it keeps."""
    action, tier = choice.action.copy(), choice.tier.copy()
    mine = which[action[which] == KEEP]
    action[mine], tier[mine] = SWAP, candidates.tier[mine]
    return Choice(choice.columns, action, tier, choice.replay)


def with_replays(choice: Choice, which: Sequence[int], only: int | None = None) -> Choice:
    """``choice`` with all movable outputs of ``which`` computed again.

    With ``only``, just those outputs that now have that action.
    """
    columns = choice.columns
    action, replay = choice.action.copy(), choice.replay.copy()
    for k in which:
        mine = np.array(columns.trace.replays[k].outputs, np.int64)
        mine = mine[columns.movable[mine]]
        if only is not None:
            mine = mine[action[mine] == only]
        action[mine], replay[mine] = RECOMPUTE, k
    return Choice(columns, action, choice.tier, replay)
