"""Records that are sent until acknowledged are taken exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.control.inbox import Delivery, Inbox
from ithaca.runtime.control.surface import Beat, Fenced, Record, refuse_older


def beat(first: int, last: int, *, incarnation: str = "a", acknowledged: int = 0) -> Beat:
    records = tuple(Record(n, str(n)) for n in range(first, last + 1))
    return Beat(0, incarnation, 1, 0, "", 0.0, acknowledged, records)


def taken(inbox: Inbox, sent: Beat) -> list[int]:
    return [record.sequence for record in inbox.take(sent).records]


def test_a_repeated_beat_brings_nothing_new() -> None:
    inbox = Inbox()
    assert taken(inbox, beat(1, 3)) == [1, 2, 3]
    assert taken(inbox, beat(1, 3)) == []
    assert taken(inbox, beat(2, 5)) == [4, 5]
    assert inbox.take(beat(9, 8)) == Delivery((), 0, 5)


def test_incarnations_and_workers_count_for_themselves() -> None:
    inbox = Inbox()
    assert taken(inbox, beat(1, 2)) == [1, 2]
    assert taken(inbox, beat(1, 1, incarnation="b")) == [1]
    assert inbox.seen() == {(0, "a"): 2, (0, "b"): 1}


def test_a_gap_is_counted_as_lost() -> None:
    inbox = Inbox()
    inbox.take(beat(1, 2))
    delivery = inbox.take(beat(6, 7))
    assert (delivery.lost, delivery.acknowledged) == (3, 7)


def test_a_new_inbox_goes_on_where_the_old_one_ended() -> None:
    old = Inbox()
    old.take(beat(1, 4))
    assert taken(Inbox(old.seen()), beat(3, 6)) == [5, 6]
    delivery = Inbox().take(beat(5, 6, acknowledged=4))
    assert (len(delivery.records), delivery.lost) == (2, 0)


def deliver(inbox: Inbox, sent: list[str], tries: list[tuple[int, bool]]) -> list[str]:
    """Sends ``sent`` in batches; a try tells the batch's size and whether the reply arrived."""
    came: list[str] = []
    acknowledged = 0
    for size, arrives in [*tries, (len(sent), True)]:
        batch = list(enumerate(sent, start=1))[acknowledged : acknowledged + size]
        records = tuple(Record(*pair) for pair in batch)
        delivery = inbox.take(Beat(0, "a", 1, 0, "", 0.0, acknowledged, records))
        came += [record.line for record in delivery.records]
        assert delivery.lost == 0
        if arrives:
            acknowledged = delivery.acknowledged
    return came


TRIES = st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=12)


@given(count=st.integers(0, 20), tries=TRIES)
def test_records_come_exactly_once_whatever_replies_are_lost(
    count: int, tries: list[tuple[int, bool]]
) -> None:
    sent = [f"line {number}" for number in range(count)]
    assert deliver(Inbox(), sent, tries) == sent


def test_the_oracle_sees_an_inbox_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_inbox: Inbox, sent: Beat) -> Delivery:
        return Delivery(sent.records, 0, sent.records[-1].sequence if sent.records else 0)

    monkeypatch.setattr(Inbox, "take", forgetful)
    assert deliver(Inbox(), ["x", "y"], [(2, False)]) == ["x", "y", "x", "y"]


def test_an_older_generation_is_fenced_and_a_newer_one_is_not() -> None:
    refuse_older(beat(1, 1), 1)
    refuse_older(beat(1, 1), 0)
    with pytest.raises(Fenced, match="generation 1 is over: the run is in generation 2") as caught:
        refuse_older(beat(1, 1), 2)
    assert (caught.value.given, caught.value.generation) == (1, 2)
