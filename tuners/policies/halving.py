"""Successive halving of arms: equal time for all that are left, then the better half goes on.

Jamieson and Talwalkar, arXiv 1502.07943; an arm is judged by its best reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ithaca.tuners.book import Book
from ithaca.tuners.policies.policy import Policy, Pull, tuples


@dataclass(frozen=True, slots=True)
class Half:
    """Round, arms that are left, when the round ends, and what each had used before it."""

    number: int
    live: tuple[str, ...]
    ends_s: float = 0.0
    before: tuple[float, ...] = ()


class SuccessiveHalving(Policy[Half]):
    """log2(K) rounds of equal length for K arms."""

    name = "halving"

    def begin(self, arms: tuple[str, ...]) -> Half:
        """Before the first round."""
        return Half(-1, arms)

    def parse(self, data: Mapping[str, Any]) -> Half:
        """A state from JSON."""
        return Half(**tuples(data))

    def alive(self, state: Half, arms: tuple[str, ...]) -> tuple[str, ...]:
        """Arms of the better halves so far."""
        del arms
        return state.live

    def next(self, state: Half, book: Book, now_s: float) -> tuple[Pull, Half] | None:
        """The live arm that has had least time in this round."""
        rounds = max(math.ceil(math.log2(len(book.arms))), 1)
        while state.number < 0 or (now_s >= state.ends_s and state.number < rounds - 1):
            live = state.live
            if state.number >= 0:
                order = sorted(live, key=lambda arm: -_best(book, arm))
                kept = set(order[: (len(live) + 1) // 2])
                live = tuple(arm for arm in live if arm in kept)
            number = state.number + 1
            ends = book.budget_s * (number + 1) / rounds
            before = tuple(book.accounts[arm].used_s(now_s) for arm in live)
            state = replace(state, number=number, live=live, ends_s=ends, before=before)
        had = [
            (book.accounts[arm].used_s(now_s) - before, len(book.accounts[arm].running))
            for arm, before in zip(state.live, state.before, strict=True)
        ]
        return Pull(state.live[had.index(min(had))]), state


def _best(book: Book, arm: str) -> float:
    best = book.accounts[arm].best
    return -math.inf if best is None else best
