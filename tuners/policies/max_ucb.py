"""MaxUCB: an upper bound for the maximum of an arm's rewards.

"Put CASH on Bandits: A Max K-Armed Problem for Automated Machine Learning", arXiv 2505.05226:
max + (alpha * log t / n)^2 with rewards scaled to [0.01, 0.99].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ithaca.tuners.book import Book
from ithaca.tuners.policies.policy import Policy, Pull


class MaxUcb(Policy[None]):
    """Each arm once, then the one with the highest bound; ``alpha`` weighs the bonus."""

    name = "maxucb"

    def __init__(self, seed: int = 0, alpha: float = 0.5) -> None:
        super().__init__(seed)
        self.alpha = alpha

    def begin(self, arms: tuple[str, ...]) -> None:
        """Nothing is remembered besides the book."""

    def parse(self, data: Mapping[str, Any]) -> None:
        """Nothing."""

    def bounds(self, book: Book) -> dict[str, float]:
        """The bound of each arm; infinite for one that was never tried."""
        rewards = book.rewards()
        low, high = min(rewards, default=0.0), max(rewards, default=0.0)
        total = sum(account.pulls for account in book.accounts.values())
        found = {}
        for arm, account in book.accounts.items():
            if not account.pulls:
                found[arm] = math.inf
                continue
            best = low if account.best is None else account.best
            scale = 0.01 + 0.98 * (best - low) / (high - low) if high > low else 0.5
            found[arm] = scale + (self.alpha * math.log(max(total, 1)) / account.pulls) ** 2
        return found

    def next(self, state: None, book: Book, now_s: float) -> tuple[Pull, None] | None:
        """The arm with the highest bound."""
        bounds = self.bounds(book)
        return Pull(max(bounds, key=lambda arm: bounds[arm])), None
