"""BOASF as published: Gaussian upper confidence bounds, softmax shares, a probabilistic filter.

Zhu et al., "BOASF: A Unified Framework for Speeding up Automatic Machine Learning via Adaptive
Successive Filtering", arXiv 2507.20446; the constants are those of the authors' code of 2020:
three rounds, c = 2, log2(n + 2) under the bound, slots of whole seconds, arms one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ithaca.tuners.book import Account, Book
from ithaca.tuners.policies.policy import Policy, Pull, tuples
from ithaca.tuners.trial import Failure

NO_RECORD_STD = 1e-5
"""Standard deviation that an arm without a record is given; its mean is 0."""


def upper_bound(rewards: Sequence[float], c: float = 2.0) -> float:
    """mean + c * std / log2(n + 2); the standard deviation is that of the population."""
    if not rewards:
        return c * NO_RECORD_STD / math.log2(2)
    return float(np.mean(rewards)) + c * float(np.std(rewards)) / math.log2(len(rewards) + 2)


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares that sum to 1."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def keep_probabilities(scores: Sequence[float]) -> list[float]:
    """Scores scaled to [0, 1]: 1 for the best, 0 for the worst; all 1/n if they are equal."""
    low, high = min(scores), max(scores)
    # A difference so small that dividing by it overflows is none.
    if high - low <= abs(high) * 1e-15:
        return [1 / len(scores)] * len(scores)
    return [(score - low) / (high - low) for score in scores]


def filtered(
    arms: Sequence[str], probabilities: Sequence[float], random: np.random.Generator
) -> tuple[str, ...]:
    """Each arm with its probability, drawn anew until at least one is left.

    An arm with the probability 1 always is; there is one unless all scores were equal.
    """
    while True:
        drawn = random.random(len(arms))
        kept = tuple(a for a, p, d in zip(arms, probabilities, drawn, strict=True) if d < p)
        if kept:
            return kept


@dataclass(frozen=True, slots=True)
class Round:
    """Where the published algorithm stands.

    Attributes:
        number: of the round, from 0.
        live: arms that are left.
        slots: seconds of each live arm in this round; empty before the first pull.
        before: seconds that each had used when the round began.
        turn: index of the live arm whose slot runs.
    """

    number: int
    live: tuple[str, ...]
    slots: tuple[int, ...] = ()
    before: tuple[float, ...] = ()
    turn: int = 0


class Boasf(Policy[Round]):
    """The published policy.

    Args:
        seed: of the filter.
        rounds: R.
        c: weight of the standard deviation.
    """

    name = "boasf"
    extends = False

    def __init__(self, seed: int = 0, rounds: int = 3, c: float = 2.0) -> None:
        super().__init__(seed)
        self.rounds, self.c = rounds, c

    def startup(self, arms: int) -> int:
        """As published: 20, however many arms there are."""
        del arms
        return 20

    def begin(self, arms: tuple[str, ...]) -> Round:
        """Before the first round."""
        return Round(0, arms)

    def parse(self, data: Mapping[str, Any]) -> Round:
        """A state from JSON."""
        return Round(**tuples(data))

    def alive(self, state: Round, arms: tuple[str, ...]) -> tuple[str, ...]:
        """Arms that no filter has dropped."""
        del arms
        return state.live

    def score(self, account: Account, book: Book) -> float:
        """The upper bound of an arm; an error counts as a reward of 0 where high is good."""
        rewards = sorted(account.rewards.values())
        if book.maximize:
            rewards += [0.0 for why in account.failures.values() if why is not Failure.TIME]
        return upper_bound(rewards, self.c)

    def shares(self, live: Sequence[str], book: Book) -> list[float]:
        """The part of a round's budget of each live arm: they sum to 1."""
        return softmax([self.score(book.accounts[arm], book) for arm in live])

    def next(self, state: Round, book: Book, now_s: float) -> tuple[Pull, Round] | None:
        """The arm whose slot it is, for at most what is left of the slot."""
        if math.isinf(book.budget_s):
            raise ValueError("boasf divides a budget into rounds; give one, or use boasf+")
        while state.number < self.rounds:
            if not state.slots:
                state = self._dealt(state, book, now_s)
            while state.turn < len(state.live):
                arm = state.live[state.turn]
                used = book.accounts[arm].used_s(now_s) - state.before[state.turn]
                left = state.slots[state.turn] - used
                if left > 1e-9:
                    return Pull(arm, min(left, book.cap_s)), state
                state = replace(state, turn=state.turn + 1)
            if not book.idle:
                return None  # the filter waits for the last values of the round
            state = self._filter(state, book)
        return None

    def _dealt(self, state: Round, book: Book, now_s: float) -> Round:
        budget = book.budget_s / self.rounds
        slots = tuple(int(share * budget) for share in self.shares(state.live, book))
        before = tuple(book.accounts[arm].used_s(now_s) for arm in state.live)
        return replace(state, slots=slots, before=before, turn=0)

    def _filter(self, state: Round, book: Book) -> Round:
        scores = [self.score(book.accounts[arm], book) for arm in state.live]
        kept = filtered(state.live, keep_probabilities(scores), self.random(1, state.number))
        return Round(state.number + 1, kept)
