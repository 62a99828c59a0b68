"""Policies that learn nothing: what the others have to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ithaca.tuners.book import Book
from ithaca.tuners.policies.policy import Policy, Pull


class RoundRobin(Policy[int]):
    """Arms in turn, with a surrogate in each."""

    name = "round-robin"

    def begin(self, arms: tuple[str, ...]) -> int:
        """Pulls so far."""
        return 0

    def parse(self, data: Mapping[str, Any]) -> int:
        """A state from JSON."""
        return int(data["value"])

    def next(self, state: int, book: Book, now_s: float) -> tuple[Pull, int] | None:
        """The next in turn."""
        return Pull(book.arms[state % len(book.arms)]), state + 1


class RandomSearch(RoundRobin):
    """An arm at random, and in it a configuration at random."""

    name = "random"
    guided = False

    def next(self, state: int, book: Book, now_s: float) -> tuple[Pull, int] | None:
        """Any arm."""
        return Pull(book.arms[int(self.random(3, state).integers(len(book.arms)))]), state + 1
