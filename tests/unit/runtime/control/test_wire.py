"""Values survive the way through a message; what no worker would send is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.control import control_pb2 as pb
from ithaca.runtime.control import wire
from ithaca.runtime.control.feed import FeedSlice
from ithaca.runtime.control.roll import Attend, Order, OrderKind
from ithaca.runtime.control.surface import (
    Beat,
    BeatReply,
    Command,
    Record,
    RunStatus,
    WorkerStatus,
)

NUMBER = st.integers(0, 2**63)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LINE = TEXT.filter(lambda text: "\n" not in text and "\r" not in text)
TIME = st.floats(0, 1e12)
WORKER = st.builds(WorkerStatus, NUMBER, TEXT, NUMBER, TEXT, NUMBER, TEXT, TIME, st.none() | TIME)
STATUS = st.builds(
    RunStatus,
    TEXT,
    TEXT,
    NUMBER,
    NUMBER,
    st.none() | st.floats(allow_nan=False),
    st.none() | TIME,
    NUMBER,
    TEXT,
    st.lists(WORKER, max_size=3).map(tuple),
    TIME,
    st.none() | NUMBER,
)
RECORDS = st.dictionaries(st.integers(1, 2**40), LINE, max_size=4).map(
    lambda lines: tuple(Record(number, lines[number]) for number in sorted(lines))
)
GENERATION = st.integers(-1, 2**62)
BEAT = st.builds(Beat, NUMBER, TEXT, GENERATION, NUMBER, TEXT, TIME, NUMBER, RECORDS, TIME)
ORDER = st.builds(Order, NUMBER, st.sampled_from(OrderKind), TEXT)


@given(STATUS)
def test_a_status_round_trips(status: RunStatus) -> None:
    bytes_ = wire.status_to_message(status).SerializeToString()
    assert wire.status_from_message(pb.StatusReply.FromString(bytes_)) == status


@given(BEAT)
def test_a_beat_round_trips(beat: Beat) -> None:
    bytes_ = wire.beat_to_message(beat).SerializeToString()
    assert wire.beat_from_message(pb.BeatRequest.FromString(bytes_)) == beat


@pytest.mark.parametrize("command", Command)
def test_a_reply_round_trips(command: Command) -> None:
    reply = BeatReply(command, 4, 17)
    bytes_ = wire.reply_to_message(reply).SerializeToString()
    assert wire.reply_from_message(pb.BeatReply.FromString(bytes_)) == reply


@given(ORDER)
def test_an_order_round_trips(order: Order) -> None:
    bytes_ = wire.order_to_message(order).SerializeToString()
    assert wire.order_from_message(pb.Order.FromString(bytes_)) == order


@given(st.builds(Attend, NUMBER, TEXT, GENERATION))
def test_a_request_for_orders_round_trips(who: Attend) -> None:
    bytes_ = wire.attend_to_message(who).SerializeToString()
    assert wire.attend_from_message(pb.AttendRequest.FromString(bytes_)) == who


def test_an_order_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match="order 99"):
        wire.order_from_message(pb.Order.FromString(b"\x10\x63"))


def test_a_slice_round_trips() -> None:
    part = FeedSlice(3, 9, ('{"a": 1}', "{}"), ended=True)
    assert wire.slice_from_message(wire.slice_to_message(part)) == part


def test_the_status_message_has_no_place_for_a_token() -> None:
    assert not [name for name in pb.StatusReply.DESCRIPTOR.fields_by_name if "token" in name]


@pytest.mark.parametrize(
    "message",
    [
        pb.BeatRequest(since_s=float("nan")),
        pb.BeatRequest(since_s=-1.0),
        pb.BeatRequest(expected_s=float("inf")),
        pb.BeatRequest(action="x" * (wire.MAX_TEXT + 1)),
        pb.BeatRequest(records=[pb.Record(sequence=0, line="{}")]),
        pb.BeatRequest(records=[pb.Record(sequence=2), pb.Record(sequence=1)]),
        pb.BeatRequest(records=[pb.Record(sequence=2), pb.Record(sequence=2)]),
        pb.BeatRequest(records=[pb.Record(sequence=1, line='{}\n{"forged": 1}')]),
    ],
)
def test_a_beat_that_no_worker_sends_is_refused(message: pb.BeatRequest) -> None:
    with pytest.raises(ValueError, match="a beat"):
        wire.beat_from_message(message)


def test_a_command_of_a_later_version_is_refused() -> None:
    message = pb.BeatReply.FromString(b"\x08\x63")
    with pytest.raises(ValueError, match="command 99"):
        wire.reply_from_message(message)
