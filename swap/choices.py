"""Choices for a whole step: what is swapped and computed again on top of what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ithaca.swap.candidates import Candidates
from ithaca.swap.columns import Ints
from ithaca.swap.schedule import KEEP, RECOMPUTE, SWAP, Choice


def tightest_choice(candidates: Candidates, budget_bytes: int | None = None) -> Choice:
    """The choice that needs the fewest bytes at its worst point, of a few that are extreme.

    With a budget, the first of them that fits it.
    """
    best, fewest = Choice.keep(candidates.columns), None
    for choice in _extremes(candidates):
        most = int(choice.floor.max(initial=0))
        if fewest is None or most < fewest:
            best, fewest = choice, most
        if budget_bytes is not None and most <= budget_bytes:
            break
    return best


def _extremes(candidates: Candidates) -> Iterator[Choice]:
    """Everything swapped, everything computed again, and both."""
    start = Choice.keep(candidates.columns)
    swap = with_swaps(start, candidates, candidates.swaps)
    yield swap
    for blocks in (candidates.whole, candidates.blocks, ()):
        for base in (swap, start):
            for first, second in ((blocks, candidates.cheap), (candidates.cheap, blocks)):
                computed = with_replays(with_replays(base, first, KEEP), second, KEEP)
                yield computed
                yield with_swaps(computed, candidates, candidates.swaps)
    yield start


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
    if not len(which):
        return choice
    replays = columns.trace.replays
    mine = np.array([index for k in which for index in replays[k].outputs], np.int64)
    by = np.repeat(np.array(which, np.int64), [len(replays[k].outputs) for k in which])
    wanted = columns.movable[mine]
    if only is not None:
        wanted &= choice.action[mine] == only
    action, replay = choice.action.copy(), choice.replay.copy()
    # The first that brings back a storage has it, so the last assignment is the first's.
    mine, by = mine[wanted][::-1], by[wanted][::-1]
    action[mine], replay[mine] = RECOMPUTE, by
    return Choice(columns, action, choice.tier, replay)
