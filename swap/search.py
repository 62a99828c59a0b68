"""The search for the choice with the shortest step.

One number is searched for: how many of the storages that are dearest to compute again go over the
link. What is then still too much is computed again, cheap replays before blocks, and only then
swapped whatever the wait. The best is trimmed (what fits after all is kept), and what is waited for
is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ithaca.swap.candidates import Candidates, shortest, tiers_of
from ithaca.swap.choices import with_replays, with_swaps
from ithaca.swap.columns import Columns, Ints
from ithaca.swap.model import Forecast, forecast
from ithaca.swap.placement import place
from ithaca.swap.schedule import KEEP, SWAP, Choice, Schedule
from ithaca.swap.trace import Recipe

FEWEST_TRIES, MOST_TRIES = 8, 60


class Search:
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
        if hasattr(self, "best") and (least := self._least(choice)) >= self.best[1].step_s:
            return least
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
        self._search(candidates, tightest)
        self._nearest()

    def _search(self, candidates: Candidates, tightest: Choice) -> None:
        tried: dict[int, float] = {}
        reserve = min(4, self._tries // 3)
        for m in self._kinks(candidates):
            tried[m] = self._attempt(candidates, m)
            if self._is_free():
                return self._trim()
        for other in (candidates.longest_first(), candidates.largest_first()):
            for m in self._kinks(other)[:2]:
                self._attempt(other, m)
                if self._is_free():
                    return self._trim()
        step = max(1, len(candidates.swaps) // 8)
        while self._tries > reserve:
            centre = min(tried, key=lambda m: (tried[m], m))
            fresh = [m for m in (centre - step, centre + step) if m not in tried]
            fresh = [m for m in fresh if 0 <= m <= len(candidates.swaps)]
            for m in fresh:
                tried[m] = self._attempt(candidates, m)
            if step == 1 and not fresh:
                break
            step = max(1, step // 2)
        if not hasattr(self, "best"):
            self._relieve(tightest, candidates)
        self._trim()
        return self._unblock()

    def _kinks(self, candidates: Candidates) -> list[int]:
        """Numbers of swaps at which the step time has a reason to bend."""
        columns, swaps = self._columns, candidates.swaps
        if not len(swaps):
            return [0]
        link = columns.trace.links[0]
        nbytes = np.cumsum(columns.nbytes[swaps])
        peak = columns.clock[columns.keep_all().argmax()]
        written = peak * link.out_bytes_per_s
        read = (columns.clock[-1] - peak) * link.in_bytes_per_s
        hidden = [int(np.searchsorted(nbytes, window)) for window in (written, read)]
        start = Choice.keep(columns)
        needed = [
            int((self._swaps(base, candidates, swaps).action == SWAP).sum())
            for base in (start, with_replays(start, candidates.cheap))
        ]
        # What is enough without any replay comes first: if the link hides it, that is the answer.
        return list(dict.fromkeys([needed[0], *hidden, needed[1], 0, len(swaps)]))

    def _relieve(self, tightest: Choice, candidates: Candidates) -> None:
        """Takes as much off the links as the budget allows, where hardly anything fits."""
        self.consider(tightest)
        choice = tightest
        todo = [candidates.blocks, candidates.cheap]
        looks = 100
        while todo and looks:
            group, looks = todo.pop(0), looks - 1
            taken = with_replays(choice, group, SWAP)
            if self._fits(taken):
                choice = taken
            elif len(group) > 1:
                half = len(group) // 2
                todo[:0] = [group[:half], group[half:]]
        self.consider(choice)

    def _is_free(self) -> bool:
        if not hasattr(self, "best"):
            return False
        result = self.best[1]
        return result.stall_s + result.recompute_s <= 0.0

    def _least(self, choice: Choice) -> float:
        """Seconds that a step with ``choice`` takes at least: its links, or its operators."""
        columns, links = self._columns, self._columns.trace.links
        replays = columns.trace.replays
        busy = float(columns.clock[-1]) + sum(replays[r.replay].seconds for r in choice.needs.runs)
        for tier, link in enumerate(links):
            here = (choice.action == SWAP) & (choice.tier == tier)
            nbytes = float(columns.nbytes[here].sum())
            busy = max(busy, nbytes / min(link.out_bytes_per_s, link.in_bytes_per_s))
        return busy

    def _fits(self, choice: Choice) -> bool:
        return bool(choice.floor.max(initial=0) <= self._budget)

    def _attempt(self, candidates: Candidates, most: int) -> float:
        """Swap at most ``most``, then replays, then swap the rest, as little of each as fits."""
        swaps, rest = candidates.swaps[:most], candidates.swaps[most:]
        choice = self._swaps(Choice.keep(self._columns), candidates, swaps)
        if self._fits(choice):
            return self.consider(choice)
        choice = self._replays(choice, candidates.cheap, KEEP)
        if self._fits(choice):
            return self.consider(choice)
        start, blocks = choice, self._blocks(choice, candidates)
        # Blocks bring back all at once, which is the shortest; or only what nothing cheap does.
        for only in (None, KEEP):
            choice = self._replays(start, blocks, only)
            if self._fits(choice):
                return self.consider(choice)
        choice = self._swaps(choice, candidates, rest)
        return self.consider(choice) if self._fits(choice) else float("inf")

    def _swaps(self, choice: Choice, candidates: Candidates, which: Ints) -> Choice:
        """``choice`` with the shortest prefix of ``which`` swapped that fits, or with all."""
        owner = np.arange(len(which))
        return self._shortest(
            choice, which, owner, len(which), lambda k: with_swaps(choice, candidates, which[:k])
        )

    def _replays(self, choice: Choice, which: Sequence[int], only: int | None) -> Choice:
        """``choice`` with the shortest prefix of ``which`` run again that fits, or with all."""
        replays = self._columns.trace.replays
        outputs = np.array([index for k in which for index in replays[k].outputs], np.int64)
        owner = np.repeat(np.arange(len(which)), [len(replays[k].outputs) for k in which])
        return self._shortest(
            choice, outputs, owner, len(which), lambda k: with_replays(choice, which[:k], only)
        )

    def _shortest(
        self,
        choice: Choice,
        storages: Ints,
        owner: Ints,
        last: int,
        extend: Callable[[int], Choice],
    ) -> Choice:
        """The smallest extension of up to ``last`` steps that fits, or the whole.

        Step ``owner[i]`` takes ``storages[i]`` away.
        """
        levels = choice.floor
        point = int(levels.argmax())
        excess = int(levels[point]) - self._budget
        if excess <= 0:
            return choice
        made = {last: extend(last)}
        if not self._fits(made[last]):
            return made[last]

        def fits(size: int) -> bool:
            if size not in made:
                made[size] = extend(size)
            return self._fits(made[size])

        # So many steps are needed for the worst point alone.
        helps = self._columns.away_at(point)[storages] & (choice.action[storages] == KEEP)
        freed = np.bincount(owner[helps], self._columns.nbytes[storages[helps]], last)
        low = min(last, int(np.searchsorted(np.cumsum(freed), excess)) + 1)
        return made[shortest(last, fits, low)]

    def _blocks(self, choice: Choice, candidates: Candidates) -> list[int]:
        """Blocks by seconds per byte that ``choice`` still keeps, then the longest away first."""
        columns = self._columns
        kept = np.where((choice.action == KEEP) & columns.movable, columns.nbytes, 0)
        order = []
        for k in candidates.blocks:
            replay = columns.trace.replays[k]
            mine = list(replay.outputs)
            if size := int(kept[mine].sum()):
                rate = round(4 * float(np.log2(max(replay.seconds, 1e-12) / size)))
                order.append((rate, -float(columns.window_s[mine].max()), k))
        return [k for *_, k in sorted(order)]

    def _trim(self) -> None:
        """Keeps whatever fits after all, the dearest first."""
        schedule, result = self.best
        choice, columns = schedule.choice, self._columns
        room = self._budget - result.levels
        groups: list[tuple[float, tuple[int, ...]]] = [
            (columns.trace.replays[run.replay].seconds, choice.brought_back(run.replay))
            for run in choice.needs.runs
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

    def _nearest(self) -> None:
        """Room of a nearer tier that was meant for what is kept now is for what would go further.

        What is waited for comes first, then what is away for the shortest time.
        """
        columns, (schedule, result) = self._columns, self.best
        choice = schedule.choice
        swapped = np.flatnonzero(choice.action == SWAP)
        if len(columns.trace.links) < 2 or not len(swapped):
            return
        order = np.lexsort((swapped, columns.window_s[swapped], -result.waits[swapped]))
        tier = np.where(choice.action == SWAP, tiers_of(columns, swapped[order]), choice.tier)
        nearer = place(Choice(columns, choice.action, tier, choice.replay), self._budget)
        if nearer is not None and (better := forecast(nearer)).step_s <= result.step_s:
            self.best = nearer, better

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
