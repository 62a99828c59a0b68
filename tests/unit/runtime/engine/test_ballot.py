"""The commit: everybody comes to the same tally, from ballots in any order."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.ballot import Ballot, ReplicasDiffer

LAYERS, MICRO_BATCHES, STEP = 3, 4, 11


def ballots() -> list[Ballot]:
    """Three workers; layer 1 has two holders, and each last layer computed two micro-batches."""
    one, two, three = (Ballot(LAYERS, MICRO_BATCHES, STEP) for _ in range(3))
    one.squares = {0: 0.1, 1: 0.2}
    one.auxiliaries = {(0, mb): (0.25 * mb, 5 + mb) for mb in range(MICRO_BATCHES)}
    two.squares = {1: 0.2, 2: 0.3}
    two.losses = {0: (1.1, 5, 2), 3: (2.2, 8, 2)}
    three.squares = {2: 0.3}
    three.losses = {1: (0.3, 6, 2), 2: (1e-9, 7, 2)}
    return [one, two, three]


def count(given: list[Ballot]) -> Tally:
    """The first worker's tally."""
    return given[0].tally([ballot.pack() for ballot in given])


def test_the_tally() -> None:
    tally = count(ballots())
    assert tally.committed
    assert not tally.drain
    assert tally.finite
    assert tally.culprit == ""
    assert (tally.count, tally.samples) == (26, 8)
    assert tally.loss == (1.1 + 0.3 + 1e-9 + 2.2) / 26
    assert tally.auxiliary == (0.25 * 6 + 0.5 * 7 + 0.75 * 8) / 26
    assert tally.norm == math.sqrt(0.1 + 0.2 + 0.3) / 26


def test_any_order_and_any_counter_gives_the_same() -> None:
    given = ballots()
    given[1].drain = True
    packed = [ballot.pack() for ballot in given]
    tallies = {own.tally(order) for own in given for order in permutations(packed)}
    assert len(tallies) == 1
    assert tallies.pop().drain


def test_one_no_is_enough() -> None:
    given = ballots()
    given[2].vote = False
    assert not count(given).committed


def test_a_missing_loss_is_named() -> None:
    given = ballots()
    del given[2].losses[1]
    with pytest.raises(ValueError, match=r"loss of micro-batches \[1\]"):
        count(given)


def test_another_steps_ballot_is_refused() -> None:
    given = ballots()
    given[1].step += 1
    with pytest.raises(ValueError, match="a ballot of step 12 came in step 11"):
        count(given)


@pytest.mark.parametrize("other", [math.nextafter(0.2, 1), -0.2, math.nan])
def test_replicas_that_differ_are_noticed(other: float) -> None:
    given = ballots()
    given[1].squares[1] = other
    with pytest.raises(ReplicasDiffer, match="layer 1 hold different gradients"):
        count(given)


def test_replicas_with_the_same_nan_agree() -> None:
    given = ballots()
    given[0].squares[1] = given[1].squares[1] = math.nan
    tally = count(given)
    assert not tally.finite
    assert tally.culprit == "the gradient of layer 1 is not finite"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"losses": (2, (None, 7, 2))}, "the loss of micro-batch 2 is "),
        ({"auxiliaries": ((0, 3), (None, 8))}, "own loss of layer 0 in micro-batch 3"),
        ({"squares": (0, None)}, "the gradient of layer 0"),
    ],
    ids=["loss", "auxiliary", "gradient"],
)
def test_what_is_not_finite_is_named(change: dict[str, Any], culprit: str, bad: float) -> None:
    given = ballots()
    ((table, (key, values)),) = change.items()
    filled = bad if values is None else tuple(bad if v is None else v for v in values)
    for ballot in given:
        if key in getattr(ballot, table):
            getattr(ballot, table)[key] = filled
    tally = count(given)
    assert not tally.finite
    assert culprit in tally.culprit
    assert tally.committed, "whether it counts is the job's decision"


def test_a_validation_has_no_norm() -> None:
    ballot = Ballot(LAYERS, 1, STEP)
    ballot.losses = {0: (3.0, 2, 1)}
    tally = ballot.tally([ballot.pack()])
    assert (tally.loss, tally.norm, tally.auxiliary) == (1.5, 0.0, 0.0)


def test_a_step_without_terms_is_refused() -> None:
    ballot = Ballot(1, 2, STEP)
    ballot.losses = {0: (0.0, 0, 1), 1: (0.0, 0, 1)}
    with pytest.raises(ValueError, match="no micro-batch of step 11 has a term of the loss"):
        ballot.tally([ballot.pack()])


def test_packing_keeps_every_bit() -> None:
    ballot = Ballot(2, 2, 2**52)
    ballot.squares = {0: 0.0, 1: 1 / 3}
    ballot.losses = {0: (math.pi, 2**40, 3), 1: (5e-324, 1, 0)}
    packed = ballot.pack()
    assert packed.dtype == np.float64
    assert len(packed) == ballot.size
    tally = ballot.tally([packed])
    assert tally.loss == (math.pi + 5e-324) / (2**40 + 1)
    assert tally.norm == math.sqrt(1 / 3) / (2**40 + 1)
