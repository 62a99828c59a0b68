"""BOASF with its filter, softmax and rounds kept, and what measurements asked for changed.

Arms take turns instead of running one after the other; an arm is judged by its best reward, not by
the mean of all that was tried in it (model selection is a problem of maxima); scores are scaled
before the softmax; the number of rounds follows from how many evaluations the budget allows; an arm
without a reward is thought to be as good as the best; failures lower a score by their probability,
and cost what they cost; while dear arms are tried first, cheap ones that do well go on; a trial
that costs far more than others ends. docs/decisions/0091, 0102 and 0103 have the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ithaca.tuners.book import Account, Book
from ithaca.tuners.policies.boasf import filtered, keep_probabilities, softmax
from ithaca.tuners.policies.policy import Policy, Pull, tuples

CHEAP, MOST_PULLS = 0.75, 30
"""Part of the mean first try that an arm costs at most to be cheap, and how often it is pulled at
most before all arms were: with very many pulls the surrogate takes longer than they do."""


def scaled(scores: Sequence[float]) -> list[float]:
    """Scores with mean 0 and standard deviation 1; all 0 if they are equal."""
    spread = float(np.std(scores))
    if not spread > 1e-12 * max(1.0, max(abs(score) for score in scores)):
        return [0.0] * len(scores)
    mean = float(np.mean(scores))
    return [(score - mean) / spread for score in scores]


def first_cost_s(account: Account) -> float:
    """Seconds of the first trial of an arm that has had one."""
    return account.costs[min(account.costs)]


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the policy stands.

    Attributes:
        live: arms that are left.
        round: number of the round, from 0; -1 while each arm is tried once.
        rounds_left: with this one.
        ends_s: when the round ends.
        before: seconds that each live arm had used when it began.
    """

    live: tuple[str, ...]
    round: int = -1
    rounds_left: int = 0
    ends_s: float = 0.0
    before: tuple[float, ...] = ()


class BoasfPlus(Policy[Turns]):
    """Our default policy.

    Args:
        seed: of the filter.
        most_rounds: however large the budget.
        pulls: evaluations that a round should have for each live arm.
        explore: weight of the uncertainty bonus, in standard deviations of all rewards.
        temperature: of the softmax over scaled scores.
        power: to which the probabilities to keep an arm are raised; below 1 keeps more.
        again: while arms are untried, seconds for those that were tried, for a second of first
            tries; none where all arms cost the same.
    """

    name = "boasf+"
    patient = False

    def __init__(
        self,
        seed: int = 0,
        *,
        most_rounds: int = 8,
        pulls: float = 2.0,
        explore: float = 0.5,
        temperature: float = 0.25,
        power: float = 0.6,
        again: float = 0.5,
    ) -> None:
        super().__init__(seed)
        self.most_rounds, self.pulls = most_rounds, pulls
        self.explore, self.temperature, self.power = explore, temperature, power
        self.again = again

    def begin(self, arms: tuple[str, ...]) -> Turns:
        """Before the first pull."""
        return Turns(arms)

    def parse(self, data: Mapping[str, Any]) -> Turns:
        """A state from JSON."""
        return Turns(**tuples(data))

    def alive(self, state: Turns, arms: tuple[str, ...]) -> tuple[str, ...]:
        """Arms that no filter has dropped."""
        del arms
        return state.live

    def score(self, account: Account, best: float, spread: float) -> float:
        """Best reward, a bonus for what is not known, less what its failures suggest.

        Args:
            account: of the arm.
            best: reward of the best arm: what an arm without a reward is thought to have.
            spread: standard deviation of all rewards.
        """
        rewards, failures = len(account.rewards), len(account.failures)
        reached = account.best if account.best is not None else best
        bonus = self.explore * spread / math.log2(rewards + failures + 2)
        fails = failures / (rewards + failures + 2)
        return reached + bonus - 2 * spread * fails

    def scores(self, live: Sequence[str], book: Book) -> list[float]:
        """The score of each live arm."""
        rewards = book.rewards()
        if not rewards:
            return [self.score(book.accounts[arm], 0.0, 1.0) for arm in live]
        best, spread = max(rewards), float(np.std(rewards))
        return [self.score(book.accounts[arm], best, spread) for arm in live]

    def shares(self, live: Sequence[str], book: Book) -> list[float]:
        """The part of the time of each live arm: they sum to 1."""
        return softmax([s / self.temperature for s in scaled(self.scores(live, book))])

    def next(self, state: Turns, book: Book, now_s: float) -> tuple[Pull, Turns] | None:
        """The live arm that has had least of its share in this round."""
        if state.round < 0:
            untried = [arm for arm in state.live if not book.accounts[arm].pulls]
            if untried:
                return Pull(self._cheap(state.live, book) or untried[0]), state
        if state.round < 0 or now_s >= state.ends_s:
            state = self._next_round(state, book, now_s)
        shares = self.shares(state.live, book)
        expected = book.mean_cost_s() or 1.0
        had = [
            self._had_s(book.accounts[arm], before, expected, now_s) / share
            for arm, before, share in zip(state.live, state.before, shares, strict=True)
        ]
        return Pull(state.live[had.index(min(had))]), state

    def _cheap(self, live: Sequence[str], book: Book) -> str | None:
        """The arm that is tried again before the next one is tried at all, if any is.

        Of those that cost less than first tries do in the mean, it has had least of its share.
        """
        ended = [arm for arm in live if book.accounts[arm].costs]
        if not ended:
            return None
        first_s = math.fsum(first_cost_s(book.accounts[arm]) for arm in ended)
        more_s = math.fsum(book.accounts[arm].spent_s for arm in ended) - first_s
        mean_s, left_s = first_s / len(ended), self.again * first_s - more_s
        shares = self.shares(ended, book)
        cheap = [
            ((account.spent_s + cost) / share, arm, cost)
            for arm, share in zip(ended, shares, strict=True)
            if not (account := book.accounts[arm]).running
            and account.pulls < MOST_PULLS
            and (cost := account.mean_cost_s(mean_s)) <= CHEAP * mean_s
        ]
        _, arm, cost = min(cheap, default=(0.0, None, math.inf))
        return arm if cost <= left_s else None

    @staticmethod
    def _had_s(account: Account, before: float, expected: float, now_s: float) -> float:
        """Seconds of an arm in this round; a run under way counts as long as it will take."""
        cost = account.mean_cost_s(expected)
        running = sum(max(cost, now_s - began) for began in account.running.values())
        return max(account.spent_s + running - before, 0.0)

    def _next_round(self, state: Turns, book: Book, now_s: float) -> Turns:
        live = state.live
        if state.round >= 0:
            live = self._filter(state, book)
        cost = book.mean_cost_s() or 1.0
        left_s = book.budget_s - now_s
        least_s = self.pulls * len(live) * cost / book.workers
        if math.isinf(left_s):
            rounds, ends_s = self.most_rounds, now_s + 2 * least_s
        else:
            most = self.most_rounds if state.round < 0 else max(state.rounds_left - 1, 1)
            rounds = min(max(int(left_s / least_s), 1), most) if least_s > 0 else 1
            ends_s = now_s + left_s / rounds
        before = tuple(book.accounts[arm].spent_s for arm in live)
        return replace(
            state,
            live=live,
            round=state.round + 1,
            rounds_left=rounds,
            ends_s=ends_s,
            before=before,
        )

    def _filter(self, state: Turns, book: Book) -> tuple[str, ...]:
        scores = self.scores(state.live, book)
        if min(scores) == max(scores):
            return state.live
        keep = [p**self.power for p in keep_probabilities(scores)]
        return filtered(state.live, keep, self.random(2, state.round))
