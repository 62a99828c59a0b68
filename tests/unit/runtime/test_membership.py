"""Who is let in: everybody with a part, in its newest generation; spares; nobody who is lost."""

from __future__ import annotations

import pytest

from ithaca.planner.plan import Plan
from ithaca.runtime.control.surface import Fenced
from ithaca.runtime.membership import Membership

TWO = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\npipeline 2-3 0:2@w1\n")
ONE = Plan.parse("plan generation=2 schedule=1f1b\npipeline 0-3 0:2@w0\n")


def members() -> Membership:
    return Membership(TWO, [0, 1, 2])


def test_a_member_of_an_older_generation_is_not_let_in() -> None:
    found = members()
    found.begin({})
    found.admit(0, 0)  # nobody has settled in the next one yet
    found.enter(ONE)
    found.admit(0, 0)
    found.settle()
    found.admit(0, 2)
    with pytest.raises(Fenced, match="2"):
        found.admit(0, 0)


def test_who_has_no_part_any_more_is_a_spare_in_whatever_generation_it_was() -> None:
    found = members()
    found.begin({})
    found.enter(ONE)
    found.settle()
    found.admit(1, 0)
    found.admit(2, -1)
    assert found.spares == {1, 2}


def test_who_is_lost_stays_out_in_every_generation() -> None:
    found = members()
    found.begin({1: "it died", 2: "it died"})
    for worker in (1, 2, 7):
        for generation in (-1, 0, 1, 99):
            with pytest.raises(Fenced):
                found.admit(worker, generation)


def test_another_controller_knows_the_fence() -> None:
    found = members()
    found.take_over(ONE, 5, {1: "it died"})
    assert (found.settled, found.generation, found.spares) == (2, 5, {2})
    with pytest.raises(Fenced):
        found.admit(1, 5)
    found.admit(0, 2)


def test_a_worker_that_comes_late_is_let_in_once_it_is_expected() -> None:
    found = members()
    with pytest.raises(Fenced):
        found.admit(3, -1)
    found.expect(3)
    found.admit(3, -1)
    found.join(3)
    assert 3 in found.known
    found.retire(3, "it cannot take a part")
    with pytest.raises(Fenced):
        found.admit(3, -1)
