"""The roll: one post for each worker, orders in order, and who left is told once."""

from __future__ import annotations

from ithaca.runtime.control.roll import Attend, Order, OrderKind, Roll

FENCE = Order(4, OrderKind.FENCE)
DRAIN = Order(4, OrderKind.DRAIN)


def who(worker: int, incarnation: str = "a") -> Attend:
    return Attend(worker, incarnation, 3)


def test_orders_come_behind_the_greeting_in_order() -> None:
    roll = Roll(lambda _: None)
    post = roll.enter(who(1), [FENCE])
    assert roll.push(DRAIN, [1, 2]) == {1}
    assert [post.take(0.0), post.take(0.0), post.take(0.0)] == [FENCE, DRAIN, None]


def test_only_those_who_are_meant_get_an_order() -> None:
    roll = Roll(lambda _: None)
    one, two = roll.enter(who(1)), roll.enter(who(2))
    roll.push(FENCE, [2])
    assert (one.take(0.0), two.take(0.0)) == (None, FENCE)


def test_who_leaves_is_told_once_and_attends_no_more() -> None:
    left: list[Attend] = []
    roll = Roll(left.append)
    post = roll.enter(who(1))
    post.leave()
    post.leave()
    assert left == [who(1)]
    assert roll.attending() == {}
    assert post.ended
    assert roll.push(FENCE, [1]) == frozenset()


def test_a_worker_that_came_back_has_not_left() -> None:
    left: list[Attend] = []
    roll = Roll(left.append)
    old = roll.enter(who(1))
    new = roll.enter(who(1))
    assert old.ended
    old.leave()
    assert left == []
    assert roll.attending() == {1: who(1)}
    roll.push(FENCE, [1])
    assert new.take(0.0) == FENCE


def test_who_is_dismissed_or_closed_out_has_not_left() -> None:
    left: list[Attend] = []
    roll = Roll(left.append)
    posts = [roll.enter(who(worker)) for worker in range(3)]
    roll.dismiss(0)
    roll.close()
    for post in posts:
        assert post.ended
        post.leave()
    assert left == []


def test_what_was_ordered_before_the_end_is_still_to_be_had() -> None:
    roll = Roll(lambda _: None)
    post = roll.enter(who(1))
    roll.push(FENCE, [1])
    post.end()
    assert not post.ended
    assert post.take(0.0) == FENCE
    assert post.ended
