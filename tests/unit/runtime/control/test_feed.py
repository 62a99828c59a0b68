"""The event feed: numbers, bounds, waiting, and what a slow reader is told."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.control.feed import EventFeed, FeedSlice

WAIT_S = 20.0


def test_lines_are_numbered_and_read_from_any_number_on() -> None:
    feed = EventFeed()
    assert [feed.append(f"{{{n}}}") for n in range(4)] == [0, 1, 2, 3]
    assert feed.next == 4
    assert feed.read(0) == FeedSlice(0, 0, ("{0}", "{1}", "{2}", "{3}"))
    assert feed.read(2) == FeedSlice(0, 2, ("{2}", "{3}"))
    assert feed.read(-1) == FeedSlice(0, 3, ("{3}",))
    assert feed.read(-99).first == 0
    assert feed.read(99) == FeedSlice(0, 4, ())


def test_the_oldest_lines_go_and_the_reader_is_told_how_many() -> None:
    feed = EventFeed(capacity=3)
    for number in range(10):
        feed.append(str(number))
    assert feed.read(2) == FeedSlice(5, 7, ("7", "8", "9"))


def test_the_bytes_are_bounded_too() -> None:
    feed = EventFeed(capacity=100, capacity_bytes=10, longest_bytes=5)
    for letter in "abcd":
        feed.append(letter * 4)
    assert feed.read(0) == FeedSlice(2, 2, ("cccc", "dddd"))


def test_a_line_too_long_keeps_its_number_and_counts_as_lost() -> None:
    feed = EventFeed(capacity_bytes=10, longest_bytes=3)
    for line in ("one", "longer", "two"):
        feed.append(line)
    first = feed.read(0)
    assert first == FeedSlice(0, 0, ("one",))
    assert feed.read(first.next) == FeedSlice(1, 2, ("two",))


@pytest.mark.parametrize("line", ["a\nb", "a\r"])
def test_an_event_is_one_line(line: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        EventFeed().append(line)


def test_after_the_close_readers_get_the_rest_and_the_end() -> None:
    feed = EventFeed()
    feed.append("a")
    feed.append("b")
    feed.close()
    assert feed.read(0, limit=1) == FeedSlice(0, 0, ("a",), ended=False)
    assert feed.read(1, limit=1) == FeedSlice(0, 1, ("b",), ended=True)
    assert feed.read(2, timeout_s=WAIT_S) == FeedSlice(0, 2, (), ended=True)
    with pytest.raises(RuntimeError, match="closed"):
        feed.append("c")


def test_a_waiting_reader_is_woken_by_a_line_and_by_its_own_reason() -> None:
    feed = EventFeed()
    given_up = threading.Event()
    slices: list[FeedSlice] = []

    def read() -> None:
        slices.append(feed.read(0, WAIT_S))
        slices.append(feed.read(1, WAIT_S, given_up=given_up.is_set))

    reader = threading.Thread(target=read)
    reader.start()
    feed.append("a")
    given_up.set()
    feed.wake()
    reader.join(WAIT_S)
    assert slices == [FeedSlice(0, 0, ("a",)), FeedSlice(0, 1, ())]


@given(
    sizes=st.lists(st.integers(0, 12), max_size=40),
    capacity=st.integers(1, 8),
    limit=st.integers(1, 5),
    reads=st.lists(st.booleans(), max_size=40),
)
def test_every_line_is_read_once_or_counted_as_lost(
    sizes: list[int], capacity: int, limit: int, reads: list[bool]
) -> None:
    feed = EventFeed(capacity, capacity_bytes=20, longest_bytes=10)
    texts = [f"{number:03d}".ljust(size, "x") for number, size in enumerate(sizes)]
    cursor = lost = 0
    seen: list[str] = []

    def take() -> FeedSlice:
        nonlocal cursor, lost
        part = feed.read(cursor, limit=limit, limit_bytes=8)
        assert len(part.lines) <= limit
        cursor, lost = part.next, lost + part.lost
        assert all(texts[part.first + i] == line for i, line in enumerate(part.lines))
        seen.extend(part.lines)
        return part

    for number, text in enumerate(texts):
        feed.append(text)
        if number < len(reads) and reads[number]:
            take()
    feed.close()
    while not take().ended:
        pass
    assert len(seen) + lost == len(texts)
    assert seen == sorted(seen)
