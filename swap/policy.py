"""Keep, swap or recompute for every saved tensor, so that a step fits a budget and is short.

A greedy choice with one number that is searched for: how many of the storages that are dearest to
compute again go over the link. What is then still too much is computed again, cheap replays before
blocks, and only then swapped whatever the wait. Each choice is placed and run by the model; the
best one is trimmed (what fits after all is kept) and its waits are looked at one by one.
Deterministic: the same trace and budget give the same plan on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ithaca.swap.candidates import Candidates, shortest
from ithaca.swap.columns import Columns, Ints
from ithaca.swap.identity import At
from ithaca.swap.model import Forecast, forecast
from ithaca.swap.placement import place
from ithaca.swap.plan import Plan
from ithaca.swap.schedule import KEEP, RECOMPUTE, SWAP, Choice, Schedule
from ithaca.swap.trace import Recipe, Trace

# Storages that may be placed in one decision; with it goes the number of choices that are tried.
EFFORT = 12_000
FEWEST_TRIES, MOST_TRIES = 8, 60


@dataclass(frozen=True)
class Refusal:
    """No plan fits.

    Args:
        budget_bytes: what was given.
        smallest_bytes: the smallest budget for which there is a plan.
        place: the point that needs so much.
        operator: its name.
    """

    budget_bytes: int
    smallest_bytes: int
    place: At
    operator: str

    def __str__(self) -> str:
        return (
            f"a budget of {self.budget_bytes} bytes is too small for this step: "
            f"{self.operator} at {self.place} needs {self.smallest_bytes}; "
            f"give at least that, or a smaller batch"
        )


def decide(trace: Trace, budget_bytes: int, effort: int = EFFORT) -> Plan | Refusal:
    """The plan for ``trace`` under ``budget_bytes`` of the device's allocator.

    Its predicted peak is never above the budget. More ``effort`` tries more choices.
    """
    columns = Columns.of(trace)
    search = _Search(columns, budget_bytes, effort)
    levels = columns.keep_all()
    if levels.max(initial=0) <= budget_bytes:
        search.consider(Choice.keep(columns))
    else:
        candidates = Candidates.of(columns)
        tightest = tightest_choice(candidates)
        floor = tightest.floor()
        if floor.max() > budget_bytes:
            point = int(floor.argmax())
            name = trace.points[point].name
            return Refusal(budget_bytes, int(floor.max()), trace.at(point), name)
        search.run(candidates.relevant(levels > budget_bytes), tightest)
    return _plan(budget_bytes, *search.best)


def smallest_budget(trace: Trace) -> int:
    """The smallest budget, in bytes, for which :func:`decide` finds a plan."""
    columns = Columns.of(trace)
    kept = int(columns.keep_all().max(initial=0))
    return min(kept, int(tightest_choice(Candidates.of(columns)).floor().max(initial=0)))


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


class _Search:
    """Tries choices and keeps the best."""

    def __init__(self, columns: Columns, budget_bytes: int, effort: int) -> None:
        self._columns = columns
        self._budget = budget_bytes
        tries = effort // max(1, len(columns.nbytes))
        self._tries = min(max(tries, FEWEST_TRIES), MOST_TRIES)
        self._seen: dict[bytes, float] = {}
        self.best: tuple[Schedule, Forecast]

    def consider(self, choice: Choice) -> float:
        """Seconds of a step with ``choice``; infinite if it does not fit."""
        key = choice.action.tobytes() + choice.replay.tobytes()
        if key in self._seen:
            return self._seen[key]
        self._tries -= 1
        schedule = place(choice, self._budget)
        seconds = float("inf")
        if schedule is not None:
            result = forecast(schedule)
            seconds = result.step_s
            if not hasattr(self, "best") or seconds < self.best[1].step_s:
                self.best = schedule, result
        self._seen[key] = seconds
        return seconds

    def run(self, candidates: Candidates, tightest: Choice) -> None:
        """The whole search; ``tightest`` is there in case that nothing else fits."""
        most = len(candidates.swaps)
        self._attempt(candidates, most)
        if hasattr(self, "best") and self._is_free():
            self._trim()
            return
        reserve = min(4, self._tries // 3)
        step = max(1, most // 4)
        tried = {m: self._attempt(candidates, m) for m in range(0, most + 1, step)}
        while step > 1 and self._tries > reserve:
            step = max(1, step // 2)
            centre = min(tried, key=lambda m: (tried[m], m))
            for m in (centre - step, centre + step):
                if 0 <= m <= most and m not in tried and self._tries > reserve:
                    tried[m] = self._attempt(candidates, m)
        if not hasattr(self, "best"):
            self.consider(tightest)
        self._trim()
        self._unblock()

    def _is_free(self) -> bool:
        result = self.best[1]
        return result.stall_s + result.recompute_s <= 0.0

    def _fits(self, choice: Choice) -> bool:
        return bool(choice.floor().max(initial=0) <= self._budget)

    def _attempt(self, candidates: Candidates, most: int) -> float:
        """Swap at most ``most``, then replays, then swap the rest, as little of each as fits."""
        swaps, rest = candidates.swaps[:most], candidates.swaps[most:]
        steps: tuple[tuple[int, Callable[[Choice, int], Choice]], ...] = (
            (len(swaps), lambda old, k: with_swaps(old, candidates, swaps[:k])),
            (len(candidates.cheap), lambda old, k: with_replays(old, candidates.cheap[:k], KEEP)),
            (len(candidates.blocks), lambda old, k: with_replays(old, candidates.blocks[:k])),
            (len(rest), lambda old, k: with_swaps(old, candidates, rest[:k])),
        )
        choice = Choice.keep(self._columns)
        for last, extend in steps:
            choice = self._shortest(choice, last, extend)
            if self._fits(choice):
                return self.consider(choice)
        return float("inf")

    def _shortest(
        self, choice: Choice, last: int, extend: Callable[[Choice, int], Choice]
    ) -> Choice:
        """``choice`` extended by as little as fits, or by everything."""
        return extend(choice, shortest(last, lambda size: self._fits(extend(choice, size))))

    def _trim(self) -> None:
        """Keeps whatever fits after all, the dearest first."""
        schedule, result = self.best
        choice, columns = schedule.choice, self._columns
        room = self._budget - result.levels
        groups: list[tuple[float, tuple[int, ...]]] = [
            (columns.trace.replays[run.replay].seconds, run.outputs) for run in choice.needs.runs
        ]
        groups += [
            (float(result.waits[index]), (index,))
            for index in np.flatnonzero(choice.action == SWAP).tolist()
        ]
        action = choice.action.copy()
        for _, group in sorted(groups, key=lambda part: (-part[0], part[1])):
            taken = [part for index in group for part in self._away(schedule, room, index)]
            for part, nbytes in taken:
                part -= nbytes
            if all(part.min(initial=0) >= 0 for part, _ in taken):
                action[list(group)] = KEEP
                continue
            for part, nbytes in taken:
                part += nbytes
        self.consider(Choice(columns, action, choice.tier, choice.replay))

    def _away(self, schedule: Schedule, room: Ints, index: int) -> list[tuple[Ints, int]]:
        """The parts of ``room`` that keeping a storage would take its bytes from."""
        free, back = int(schedule.free[index]), int(schedule.back[index])
        nbytes = int(self._columns.nbytes[index])
        if self._columns.state[index]:
            return [(room[:back], nbytes), (room[free:], nbytes)]
        return [(room[free:back], nbytes)]

    def _unblock(self) -> None:
        """Takes the storages that are waited for longest off the link, one after another."""
        tried: set[int] = set()
        while self._tries > 0:
            schedule, result = self.best
            waited = [
                i for i in np.argsort(-result.waits, kind="stable").tolist() if i not in tried
            ]
            if not waited or result.waits[waited[0]] <= 0.0:
                return
            index = waited[0]
            tried.add(index)
            choice = schedule.choice
            for k, replay in enumerate(self._columns.trace.replays):
                if replay.recipe is Recipe.CHEAP and replay.outputs == (index,):
                    self.consider(with_replays(choice, [k]))
            action = choice.action.copy()
            action[index] = KEEP
            self.consider(Choice(self._columns, action, choice.tier, choice.replay))


def _plan(budget_bytes: int, schedule: Schedule, result: Forecast) -> Plan:
    choice, trace = schedule.choice, schedule.choice.columns.trace
    reasons = []
    for index in range(len(trace.saved)):
        match choice.action[index]:
            case 1:
                wait = result.waits[index]
                reasons.append(f"waits {wait * 1e3:.1f} ms" if wait > 0 else "hidden")
            case 2:
                reasons.append(f"{trace.replays[choice.replay[index]].recipe.value} replay")
            case _:
                movable = choice.columns.movable[index]
                reasons.append("fits" if movable else "held until backward")
    return Plan(
        sequence=trace.sequence,
        budget_bytes=budget_bytes,
        peak_bytes=result.peak_bytes,
        step_s=result.step_s,
        stall_s=result.stall_s,
        recompute_s=result.recompute_s,
        decisions=schedule.decisions(reasons),
    )
