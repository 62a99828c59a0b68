"""The search for the choice with the shortest step.

One number is searched for: how many of the storages that are dearest to compute again go over the
link. What is then still too much is computed again, cheap replays before blocks, and only then
swapped whatever the wait. The best is trimmed (what fits after all is kept), and what is waited for
is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ithaca.swap.candidates import Candidates, shortest
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
        self._attempt(candidates, len(candidates.swaps))
        if hasattr(self, "best") and self._is_free():
            self._trim()
            return
        reserve = min(4, self._tries // 3)
        tried = {m: self._attempt(candidates, m) for m in self._kinks(candidates)}
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
            self.consider(tightest)
        self._trim()
        self._unblock()

    def _kinks(self, candidates: Candidates) -> list[int]:
        """Numbers of swaps at which the step time has a reason to bend, ascending."""
        columns, swaps = self._columns, candidates.swaps
        last = len(swaps)
        kinks = {0}
        if last:
            link = columns.trace.links[0]
            nbytes = np.cumsum(columns.nbytes[swaps])
            peak = columns.clock[columns.keep_all().argmax()]
            windows = (
                peak * link.out_bytes_per_s,
                (columns.clock[-1] - peak) * link.in_bytes_per_s,
            )
            kinks |= {int(np.searchsorted(nbytes, window)) for window in windows}
            start = Choice.keep(columns)
            cheap = with_replays(start, candidates.cheap)
            for base in (start, cheap):

                def fits(size: int, base: Choice = base) -> bool:
                    return self._fits(with_swaps(base, candidates, swaps[:size]))

                kinks.add(shortest(last, fits))
        return sorted(kinks)

    def _is_free(self) -> bool:
        result = self.best[1]
        return result.stall_s + result.recompute_s <= 0.0

    def _fits(self, choice: Choice) -> bool:
        return bool(choice.floor().max(initial=0) <= self._budget)

    def _attempt(self, candidates: Candidates, most: int) -> float:
        """Swap at most ``most``, then replays, then swap the rest, as little of each as fits."""
        swaps, rest = candidates.swaps[:most], candidates.swaps[most:]
        choice = Choice.keep(self._columns)
        choice = self._shortest(len(swaps), lambda k: with_swaps(choice, candidates, swaps[:k]))
        if self._fits(choice):
            return self.consider(choice)
        first = choice
        choice = self._shortest(
            len(candidates.cheap), lambda k: with_replays(first, candidates.cheap[:k], KEEP)
        )
        if self._fits(choice):
            return self.consider(choice)
        second, blocks = choice, self._blocks(choice, candidates)
        # Blocks bring back all at once, which is the shortest; or only what nothing cheap does.
        for only in (None, KEEP):
            choice = self._shortest(
                len(blocks), lambda k, only=only: with_replays(second, blocks[:k], only)
            )
            if self._fits(choice):
                return self.consider(choice)
        third = choice
        choice = self._shortest(len(rest), lambda k: with_swaps(third, candidates, rest[:k]))
        return self.consider(choice) if self._fits(choice) else float("inf")

    def _shortest(self, last: int, extend: Callable[[int], Choice]) -> Choice:
        """The smallest extension that fits, or the whole."""
        whole = extend(last)
        if not self._fits(whole):
            return whole
        return extend(shortest(last, lambda size: self._fits(extend(size))))

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
