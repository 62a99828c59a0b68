"""Moves of state: the fewest bytes, each sent once, in rounds without a conflict."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.profile import Profile
from ithaca.recovery import moves as moves_module
from ithaca.recovery.moves import moves, seat, seated, seconds, state_bytes
from ithaca.recovery.strategy import Move
from tests.helpers.layouts import random_profile
from tests.helpers.plans import random_plan
from tests.helpers.situations import after_losing, check_moves, grid

Case = tuple[list[frozenset[int]], list[int], dict[int, frozenset[int]], Profile]


def seating(seed: int) -> Case:
    """Places, workers, what they hold, and a profile."""
    rng = Random(seed)
    profile = random_profile(rng, rng.randint(1, 6))
    layers = range(len(profile.layers))
    workers = list(range(rng.randint(1, 5)))

    def some() -> frozenset[int]:
        return frozenset(rng.sample(layers, rng.randint(0, len(layers))))

    places = [some() for _ in range(rng.randint(1, len(workers)))]
    return places, workers, {worker: some() for worker in workers}, profile


def missing(case: Case, chosen: tuple[int, ...]) -> int:
    places, _, holdings, profile = case
    return sum(
        state_bytes(profile.layers[layer])
        for place, worker in zip(places, chosen, strict=True)
        for layer in place - holdings[worker]
    )


@pytest.mark.parametrize("seed", range(60))
def test_seats_lack_the_fewest_bytes_of_all(seed: int) -> None:
    case = seating(seed)
    places, workers, holdings, profile = case
    chosen = seat(places, workers, holdings, profile)
    assert len(set(chosen)) == len(places)
    best = min(missing(case, order) for order in permutations(workers, len(places)))
    assert missing(case, chosen) == best


def test_seats_in_order_lack_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above has teeth: without the assignment problem it is lost."""

    def in_order(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(cost)), np.arange(len(cost))

    monkeypatch.setattr(moves_module, "linear_sum_assignment", in_order)
    worse = 0
    for seed in range(60):
        case = seating(seed)
        places, workers, *_ = case
        best = min(missing(case, order) for order in permutations(workers, len(places)))
        worse += missing(case, seat(*case)) > best
    assert worse > 10


def test_too_few_workers_are_refused() -> None:
    _, profile = grid(1, 1, 1, 2)
    with pytest.raises(ValueError, match="2 places cannot be taken by 1 workers"):
        seat([frozenset({0}), frozenset({1})], [3], {}, profile)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_only_what_is_missing_moves_and_no_round_has_a_conflict(seed: int) -> None:
    rng = Random(seed)
    before = random_plan(rng, max_layers=6)
    profile = random_profile(rng, before.num_layers)
    after = None
    while after is None or after.num_layers != before.num_layers:
        after = random_plan(rng, max_layers=6)
    situation = after_losing(before, profile, ())
    check_moves(moves(after, situation.there, profile), after, situation.there, profile)


@pytest.mark.parametrize("broken", ["busy", "missing"])
def test_a_conflict_and_a_useless_move_are_noticed(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above sees a sender used twice, and a layer sent that was there."""
    plan, profile = grid(1, 2, 2, 4)
    more, _ = grid(3, 2, 3, 4)
    situation = after_losing(plan, profile, ())
    check_moves(moves(more, situation.there, profile), more, situation.there, profile)
    if broken == "busy":
        monkeypatch.setattr(
            moves_module, "_sender", lambda holders, busy, sent: min(holders, default=None)
        )
        with pytest.raises(AssertionError, match="sends twice"):
            check_moves(moves(more, situation.there, profile), more, situation.there, profile)
    else:
        useless = {worker: layers - {1} for worker, layers in situation.there.items()}
        useless[9] = frozenset({1})
        everything = {**situation.there, 9: frozenset({1})}
        with pytest.raises(AssertionError, match="that is there"):
            check_moves(moves(plan, useless, profile), plan, everything, profile)


def test_one_holder_serves_many_in_few_rounds() -> None:
    """What has arrived is passed on: 1 holder, 7 takers, 3 rounds."""
    plan, profile = grid(8, 1, 8, 1)
    rounds = moves(plan, {0: frozenset({0})}, profile)
    assert [len(round_) for round_ in rounds] == [1, 2, 4]
    assert seconds(rounds, profile) == pytest.approx(3 * profile.link.seconds(3000))


def test_senders_are_used_evenly() -> None:
    plan, profile = grid(8, 1, 8, 1)
    rounds = moves(plan, {worker: frozenset({0}) for worker in range(4)}, profile)
    sent = Counter(move.source for round_ in rounds for move in round_)
    assert len(rounds) == 1
    assert max(sent.values()) == 1


def test_a_layer_that_nobody_holds_is_named() -> None:
    plan, profile = grid(1, 2, 2, 4)
    with pytest.raises(ValueError, match=r"worker 0 needs layers \[1\], and nobody holds them"):
        moves(plan, {0: frozenset({0}), 1: frozenset({2, 3})}, profile)


def test_a_plan_keeps_its_shape_when_it_is_seated() -> None:
    plan, profile = grid(2, 2, 4, 4)
    holdings = {7: frozenset({2, 3}), 8: frozenset({0, 1}), 9: frozenset(), 5: frozenset({2})}
    found = seated(plan, (5, 7, 8, 9), holdings, profile)
    assert sorted(found.workers) == [5, 7, 8, 9]
    assert {found.layers_of(8).first, found.layers_of(9).first} == {0}
    assert {found.layers_of(5).first, found.layers_of(7).first} == {2}


def test_a_move_is_text() -> None:
    move = Move(3, 1, 4, 1024)
    assert str(move) == "move 3 w1 > w4 1024"
    assert Move.parse(str(move)) == move
    with pytest.raises(ValueError, match="a move is written"):
        Move.parse("move 3 1 > 4 1024")
