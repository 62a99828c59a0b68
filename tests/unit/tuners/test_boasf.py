"""The published rules on cases computed by hand, and properties of the filter and the shares."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.tuners.book import Book
from ithaca.tuners.policies import boasf, boasf_plus
from ithaca.tuners.policies.boasf import (
    Boasf,
    filtered,
    keep_probabilities,
    softmax,
    upper_bound,
)
from ithaca.tuners.policies.boasf_plus import BoasfPlus
from ithaca.tuners.trial import Asked, Failure, Told, Trial
from tests.helpers.mutated import mutated

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


def test_the_bound_by_hand() -> None:
    # mean 0.8, population deviation 0.1; two records: log2(4) = 2
    assert upper_bound([0.7, 0.9]) == pytest.approx(0.8 + 2 * 0.1 / 2)
    # six records: log2(8) = 3; mean 0.5, deviation 0.5
    assert upper_bound([0.0, 1.0] * 3, c=3.0) == pytest.approx(0.5 + 3 * 0.5 / 3)
    # no record: mean 0, deviation 1e-5, log2(2) = 1
    assert upper_bound([]) == pytest.approx(2e-5)


def test_shares_by_hand() -> None:
    assert softmax([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])


def test_probabilities_by_hand() -> None:
    assert keep_probabilities([0.5, 0.9, 0.7]) == pytest.approx([0.0, 1.0, 0.5])
    assert keep_probabilities([0.3] * 4) == [0.25] * 4


@given(SCORES)
def test_shares_sum_to_one(scores: list[float]) -> None:
    shares = softmax(scores)
    assert math.fsum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0.0


@given(SCORES, st.integers(0, 1000))
def test_the_filter_never_drops_its_best_arm(scores: list[float], seed: int) -> None:
    arms = [str(i) for i in range(len(scores))]
    probabilities = keep_probabilities(scores)
    kept = filtered(arms, probabilities, np.random.default_rng(seed))
    assert kept
    if min(probabilities) != max(probabilities):
        assert arms[scores.index(max(scores))] in kept
        assert arms[scores.index(min(scores))] not in kept


def told(book: Book, arm: str, number: int, reward: float | None, cost_s: float = 1.0) -> None:
    """A trial of ``arm`` that ended."""
    trial = Trial.begin(Asked(number, arm, {}, None, None, False, 0.0))
    book.enter(None, trial)
    failure = Failure.TIME if reward is None else None
    book.enter(trial, trial.told(Told(number, reward, failure, cost_s, None, 0.0), None))


def test_a_whole_run_by_hand() -> None:
    """T = 12 s in 3 rounds of 4 s: two arms without a record have slots of int(0.5 * 4) = 2 s."""
    policy, book = Boasf(seed=0), Book(["a", "b"], budget_s=12.0, cap_s=1.5)
    state = policy.begin(("a", "b"))
    seen = []
    now = 0.0
    for number in range(4):
        choice = policy.next(state, book, now)
        assert choice is not None
        pull, state = choice
        seen.append((pull.arm, pull.limit_s))
        told(book, pull.arm, number, {"a": 0.9, "b": 0.5}[pull.arm])
        now += 1.0
    # one arm after the other; the cap, then what is left of the slot
    assert seen == [("a", 1.5), ("a", 1.0), ("b", 1.5), ("b", 1.0)]
    # b is the worst of two: it has probability 0 and goes; a gets all of the next round
    choice = policy.next(state, book, now)
    assert choice is not None
    assert choice[1].live == ("a",)
    assert choice[1].slots == (4,)
    assert choice[1].number == 1


def test_an_overrun_leaves_no_record_and_uses_the_slot() -> None:
    policy, book = Boasf(), Book(["a", "b"], budget_s=12.0)
    told(book, "a", 0, None, cost_s=2.0)
    assert policy.score(book.accounts["a"], book) == upper_bound([])


def test_the_published_policy_waits_for_the_last_value_of_a_round() -> None:
    policy, book = Boasf(), Book(["a"], budget_s=3.0, workers=2)
    choice = policy.next(policy.begin(("a",)), book, 0.0)
    assert choice is not None
    book.enter(None, Trial.begin(Asked(0, "a", {}, None, None, False, 0.0)))
    assert policy.next(choice[1], book, 1.0) is None


def test_ours_takes_turns_and_keeps_the_best() -> None:
    policy, book = BoasfPlus(), Book(["a", "b", "c"], budget_s=90.0)
    state = policy.begin(book.arms)
    pulled = []
    for number in range(90):
        choice = policy.next(state, book, float(number))
        assert choice is not None
        pull, state = choice
        pulled.append(pull.arm)
        told(book, pull.arm, number, {"a": 0.9, "b": 0.85, "c": 0.1}[pull.arm] + number % 7 / 100)
    assert pulled[:3] == ["a", "b", "c"]
    assert "a" in state.live
    assert pulled.count("a") > 45
    assert pulled.count("c") < 15


def pulled_first(costs: dict[str, float], values: dict[str, float]) -> list[str]:
    """What is pulled up to the first try of the last arm, one trial after the other."""
    policy, book = BoasfPlus(), Book(list(costs), budget_s=1e3)
    state, pulled, now_s = policy.begin(book.arms), list[str](), 0.0
    while set(pulled) != set(costs) and len(pulled) < 30 * len(costs):
        choice = policy.next(state, book, now_s)
        assert choice is not None
        pull, state = choice
        now_s += costs[pull.arm]
        told(book, pull.arm, len(pulled), values[pull.arm], cost_s=costs[pull.arm])
        pulled.append(pull.arm)
    return pulled


def test_cheap_arms_that_do_well_go_on_while_dear_ones_are_tried() -> None:
    values = {"good": 0.9, "bad": 0.1, "dear": 0.5, "last": 0.5}
    pulled = pulled_first({"good": 1.0, "bad": 1.0, "dear": 10.0, "last": 10.0}, values)
    # 12 seconds of first tries: 6 for what costs no more than three quarters of their mean.
    assert pulled[:3] == ["good", "bad", "dear"]
    assert len(pulled) == 4 + 6
    assert pulled.count("good") > 4
    assert pulled.count("dear") == 1


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(-1, 1)), min_size=2, max_size=8))
def test_first_tries_wait_for_no_more_than_half_of_their_own_time(
    given: list[tuple[float, float]],
) -> None:
    costs = {str(index): cost for index, (cost, _) in enumerate(given)}
    values = {str(index): value for index, (_, value) in enumerate(given)}
    pulled = pulled_first(costs, values)
    assert set(pulled) == set(costs)
    assert max(map(pulled.count, costs)) <= 30
    first_s = again_s = 0.0
    for place, arm in enumerate(pulled):
        if arm in pulled[:place]:
            again_s += costs[arm]
            assert again_s <= 0.5 * first_s + 1e-9
        else:
            first_s += costs[arm]


def test_arms_that_cost_the_same_are_all_tried_first() -> None:
    arms = [str(number) for number in range(8)]
    assert pulled_first(dict.fromkeys(arms, 2.0), dict.fromkeys(arms, 0.5)) == arms


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<= CHEAP * mean_s", "<= 2 * mean_s"),
        ("self.again * first_s - more_s", "self.again * first_s"),
        ("(account.spent_s + cost) / share", "share"),
    ],
)
def test_a_wrong_rule_for_cheap_arms_is_noticed(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    """The control: each mutant fails one of the cases above."""
    mutant = mutated(monkeypatch, boasf_plus, old, new)
    monkeypatch.setattr(sys.modules[__name__], "BoasfPlus", mutant.BoasfPlus)
    cases = (
        test_cheap_arms_that_do_well_go_on_while_dear_ones_are_tried,
        test_arms_that_cost_the_same_are_all_tried_first,
    )

    def fails(case: Callable[[], None]) -> bool:
        try:
            case()
        except AssertionError:
            return True
        return False

    assert any(map(fails, cases))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.std(rewards)) / math.log2(len(rewards) + 2)", "np.std(rewards)) / math.log2(3)"),
        ("float(np.mean(rewards)) + c", "max(rewards) + c"),
        ("[(score - low) / (high - low) for", "[(score - low) / high for"),
    ],
)
def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """The control: each mutant of the published rules fails one of the cases above."""
    mutant = mutated(monkeypatch, boasf, old, new)
    results = [
        mutant.upper_bound([0.7, 0.9]) == pytest.approx(0.9),
        mutant.upper_bound([0.0, 1.0] * 3, c=3.0) == pytest.approx(1.0),
        mutant.keep_probabilities([0.5, 0.9, 0.7]) == pytest.approx([0.0, 1.0, 0.5]),
    ]
    assert not all(results)
