"""Measured times in a profile: medians over holders, and a backward's two parts."""

from __future__ import annotations

from ithaca.planner.layer import Layer
from ithaca.planner.profile import Profile
from ithaca.runtime.measured import Timings

NOMINAL = Layer("a", forward_s=1.0, backward_s=2.0, input_s=1.0, weight_s=1.0)


def measured(before: Layer, *told: dict[str, float]) -> Layer:
    """The layer as the ``told`` times of its holders leave it."""
    timings = Timings(tuple(range(len(told))))
    whole = [timings.take(worker, {"a": times}) for worker, times in enumerate(told)]
    assert whole == [False] * (len(told) - 1) + [True]
    (layer,) = timings.apply(Profile((before,)), "here").layers
    return layer


def test_the_median_of_the_holders_counts() -> None:
    found = measured(NOMINAL, {"F": 3.0, "STEP": 0.5}, {"F": 5.0, "STEP": 0.5}, {"F": 4.0})
    assert (found.forward_s, found.step_s) == (4.0, 0.5)
    assert found.backward_s == NOMINAL.backward_s


def test_parts_that_were_tried_are_what_was_measured() -> None:
    found = measured(NOMINAL, {"F": 1.0, "B": 6.0, "I": 5.0, "W": 1.5})
    assert (found.backward_s, found.input_s, found.weight_s) == (6.0, 5.0, 1.5)


def test_parts_that_were_not_tried_keep_the_proportion_that_is_known() -> None:
    found = measured(NOMINAL, {"B": 6.0})
    assert (found.input_s, found.weight_s) == (3.0, 3.0)
    tried = measured(NOMINAL, {"B": 6.0, "I": 4.0, "W": 2.0})
    again = measured(tried, {"B": 12.0})
    assert (again.backward_s, again.input_s, again.weight_s) == (12.0, 8.0, 4.0)


def test_a_backward_that_was_only_split_is_the_sum_of_its_parts() -> None:
    assert measured(NOMINAL, {"I": 2.0, "W": 1.5}).backward_s == 3.5
