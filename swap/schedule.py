"""The working form of a plan: what happens to each storage, and at which point.

A schedule is what the policy changes and the model runs; a :class:`~ithaca.swap.plan.Plan` is
what it becomes when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ithaca.swap.columns import Columns, Ints
from ithaca.swap.plan import Action, Decision
from ithaca.swap.trace import Recipe, Replay

KEEP, SWAP, RECOMPUTE = 0, 1, 2
_CODES = {Action.KEEP: KEEP, Action.SWAP: SWAP, Action.RECOMPUTE: RECOMPUTE}

Codes = NDArray[np.int8]


class Run(NamedTuple):
    """``replay`` runs at ``point``, with ``workspace_bytes`` beside what it brings back."""

    point: int
    replay: int
    workspace_bytes: int


@dataclass(frozen=True)
class Needs:
    """From when to when each storage has to be in memory in the second half of its life.

    ``need`` [n]: its first use in backward, or by a replay that reads it, if that is earlier.
    ``hold`` [n]: behind its last use. ``runs``: the replays, in the order in which they run.
    """

    need: Ints
    hold: Ints
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Choice:
    """Keep, swap or recompute for each storage, without places.

    ``action`` [n] is one of the three codes, ``tier`` [n] an index into the trace's links for
    what is swapped, ``replay`` [n] one into its replays for what is recomputed. What could not be
    away at any point, because a replay needs it before it is released, becomes a keep.
    """

    columns: Columns
    action: Codes
    tier: Ints
    replay: Ints
    needs: Needs = field(init=False)

    def __post_init__(self) -> None:
        columns = self.columns
        while True:
            needs = _needs(self)
            stuck = (self.action != KEEP) & ~columns.state & (needs.need <= columns.released)
            if not stuck.any():
                break
            action = np.where(stuck, KEEP, self.action).astype(np.int8)
            object.__setattr__(self, "action", action)
        object.__setattr__(self, "needs", needs)

    @classmethod
    def keep(cls, columns: Columns) -> Choice:
        """Everything is kept."""
        n = len(columns.nbytes)
        zeros = np.zeros(n, np.int64)
        return cls(columns, np.zeros(n, np.int8), zeros, zeros)

    def brought_back(self, replay: int) -> tuple[int, ...]:
        """The storages that are given up for a replay."""
        outputs = self.columns.trace.replays[replay].outputs
        return tuple(
            index
            for index in outputs
            if self.action[index] == RECOMPUTE and self.replay[index] == replay
        )

    @cached_property
    def floor(self) -> Ints:
        """[N] the fewest bytes at each point: all copies take no time and no memory."""
        columns, needs = self.columns, self.needs
        away = self.action != KEEP
        free = np.where(away, np.minimum(columns.released, needs.need), needs.need)
        return self._levels(np.where(columns.state, columns.released, free), needs.need)

    def _levels(self, free: Ints, back: Ints) -> Ints:
        """[N] bytes at each point when what is away is so in [free, back)."""
        columns, needs = self.columns, self.needs
        away = self.action != KEEP
        late = away & columns.state
        early = away & ~columns.state
        first_end = np.where(late, free, np.where(early, free, needs.hold))
        starts = np.where(late, back, columns.produced)
        again = np.flatnonzero(early)
        all_starts = np.concatenate([starts, np.maximum(back, free)[again]])
        all_ends = np.concatenate([first_end, needs.hold[again]])
        nbytes = np.concatenate([columns.nbytes, columns.nbytes[again]])
        level = columns.held(all_starts, all_ends, nbytes)
        if not needs.runs:
            return level + columns.fixed
        top = columns.fixed.copy()
        at = np.array([run.point for run in needs.runs])
        beside = np.array([run.workspace_bytes for run in needs.runs])
        np.maximum.at(top, at, columns.base[at] + beside)
        return level + top


@dataclass(frozen=True)
class Schedule:
    """A choice with places: ``free`` and ``back`` [n], points, meaningful for what is away."""

    choice: Choice
    free: Ints
    back: Ints

    def levels(self) -> Ints:
        """[N] bytes in memory at each point; exact, whatever the links do."""
        return self.choice._levels(self.free, self.back)

    def stored(self) -> Ints:
        """[links] bytes in each tier at most; a state keeps its place there all step long."""
        columns, needs = self.choice.columns, self.choice.needs
        starts = np.where(columns.state, 0, columns.ready)
        ends = np.where(columns.state, len(columns.base), np.maximum(needs.need, starts))
        most = []
        for tier in range(len(columns.trace.links)):
            here = np.flatnonzero((self.choice.action == SWAP) & (self.choice.tier == tier))
            bytes_ = columns.held(starts[here], ends[here], columns.nbytes[here])
            most.append(int(bytes_.max(initial=0)))
        return np.array(most, np.int64)

    def _check(self) -> None:
        columns, needs = self.choice.columns, self.choice.needs
        early = (columns.released <= self.free) & (self.free <= self.back)
        order = np.where(columns.state, columns.released <= self.free, early)
        away = self.choice.action != KEEP
        bad = np.flatnonzero(away & ~(order & (self.back <= needs.need) & columns.movable))
        if len(bad):
            identity = columns.trace.saved[bad[0]].identity
            raise ValueError(f"{identity}: it cannot be away where the plan says so")

    def decisions(self, reasons: list[str]) -> tuple[Decision, ...]:
        """What a plan says of it."""
        choice, trace = self.choice, self.choice.columns.trace
        tiers = [link.tier for link in trace.links]
        actions, replays = choice.action.tolist(), choice.replay.tolist()
        tier, free, back = choice.tier.tolist(), self.free.tolist(), self.back.tolist()
        lines = []
        for i, saved in enumerate(trace.saved):
            what = saved.identity, saved.nbytes
            if actions[i] == SWAP:
                places = trace.at(free[i]), trace.at(back[i])
                line = Decision(*what, Action.SWAP, reasons[i], tiers[tier[i]], None, *places)
            elif actions[i] == RECOMPUTE:
                name = trace.replays[replays[i]].name
                free_at = trace.at(free[i])
                line = Decision(*what, Action.RECOMPUTE, reasons[i], None, name, free_at)
            else:
                line = Decision(*what, Action.KEEP, reasons[i])
            lines.append(line)
        return tuple(lines)

    @classmethod
    def read(cls, columns: Columns, decisions: tuple[Decision, ...]) -> Schedule:
        """The schedule that ``decisions`` say, for the trace that they were made for.

        Raises:
            ValueError: the decisions are not those of the trace's storages, in its order, or
                name a tier, a replay or a place that it does not have.
        """
        trace = columns.trace
        if [part.identity for part in decisions] != [part.identity for part in trace.saved]:
            raise ValueError("the plan is not of this sequence: its storages are others")
        tiers = {link.tier: index for index, link in enumerate(trace.links)}
        replays = {replay.name: index for index, replay in enumerate(trace.replays)}
        n = len(decisions)
        tier, replay, free, back = (np.zeros(n, np.int64) for _ in range(4))
        action = np.array([_CODES[part.action] for part in decisions], np.int8)
        for index, part in enumerate(decisions):
            try:
                tier[index] = tiers[part.tier] if part.tier else 0
                replay[index] = replays[part.replay] if part.replay else 0
                free[index] = trace.point(part.free) if part.free else 0
                back[index] = trace.point(part.prefetch) if part.prefetch else 0
            except KeyError as error:
                raise ValueError(f"{part.identity}: the trace has no {error}") from error
        for index in np.flatnonzero(action == RECOMPUTE).tolist():
            if index not in trace.replays[replay[index]].outputs:
                name = trace.replays[replay[index]].name
                raise ValueError(f"{decisions[index].identity}: {name} does not bring it back")
        choice = Choice(columns, action, tier, replay)
        schedule = cls(choice, free, np.where(action == RECOMPUTE, choice.needs.need, back))
        schedule._check()
        return schedule


def _needs(choice: Choice) -> Needs:
    """Replays are resolved from the end: what reads a storage makes only later ones."""
    columns = choice.columns
    again = np.flatnonzero(choice.action == RECOMPUTE)
    if not len(again):
        return Needs(columns.first_use, columns.freed, ())
    need, hold = columns.first_use.tolist(), columns.freed.tolist()
    replays = columns.trace.replays
    outputs: dict[int, list[int]] = {}
    for index, which in zip(again.tolist(), choice.replay[again].tolist(), strict=True):
        outputs.setdefault(which, []).append(index)
    runs = []
    for which in sorted(outputs, key=columns.replay_rank.__getitem__):
        replay, mine = replays[which], outputs[which]
        point = min([need[index] for index in mine])
        for index in mine:
            need[index] = point
        for index in replay.inputs:
            if need[index] > point:
                need[index] = point
            if hold[index] <= point:
                hold[index] = point + 1
        whole = len(mine) == len(replay.outputs) or replay.recipe is Recipe.CHEAP
        beside = replay.workspace_bytes if whole else _beside(replay, mine, columns)
        runs.append(Run(point, which, beside))
    return Needs(np.array(need, np.int64), np.array(hold, np.int64), tuple(reversed(runs)))


def _beside(replay: Replay, mine: list[int], columns: Columns) -> int:
    """What the replay holds at most beyond the outputs that it brings back.

    A block makes all of its outputs again; those that are not wanted live as long as they did in
    the forward, while of the wanted ones only those are there that have been made.
    """
    outputs = np.array(replay.outputs, np.int64)
    wanted = np.isin(outputs, mine)
    made = columns.produced[outputs]
    gone = np.where(wanted, np.iinfo(np.int64).max, np.maximum(columns.released[outputs], made + 1))
    nbytes = columns.nbytes[outputs]
    alive = (made[:, None] <= made[None, :]) & (made[None, :] < gone[:, None])
    most = int((alive * nbytes[:, None]).sum(0).max())
    return replay.workspace_bytes + max(0, most - int(nbytes[wanted].sum()))
