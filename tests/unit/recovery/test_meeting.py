"""Who has to go when workers that live do not come together."""

from __future__ import annotations

import pytest

from ithaca.recovery.meeting import kept_apart

NOBODY = frozenset[int]()


@pytest.mark.parametrize(
    ("told", "workers", "expected"),
    [
        ({}, 4, None),
        ({1: NOBODY, 2: NOBODY}, 4, 2),
        ({0: frozenset({3}), 1: frozenset({3}), 2: frozenset({3}), 3: NOBODY}, 4, 3),
        ({0: frozenset({1}), 1: NOBODY, 2: frozenset({1})}, 3, 1),
        (dict.fromkeys(range(4), NOBODY), 4, None),
        (dict.fromkeys(range(2), NOBODY), 2, 1),
    ],
    ids=["all met", "one link", "one reaches nobody", "not the last one", "all", "of two"],
)
def test_the_most_accused_goes(
    told: dict[int, frozenset[int]], workers: int, expected: int | None
) -> None:
    assert kept_apart(told, workers) == expected


def test_one_that_is_needed_stays() -> None:
    assert kept_apart({1: NOBODY, 2: NOBODY}, 4, frozenset({2})) == 1
    assert kept_apart({1: NOBODY, 2: NOBODY}, 4, frozenset({1, 2})) == 2
