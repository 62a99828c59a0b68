"""A log is followed while another process writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.runtime.events import Timeline, Warned
from ithaca.runtime.follow import _MOST, Follower
from ithaca.runtime.log import LogError


def line(message: str) -> bytes:
    return Warned(time_s=1.0, message=message).to_json().encode() + b"\n"


def test_only_what_comes_after_the_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("old") + b'{"cut')
    follower = Follower(path)
    assert list(follower.read()) == []
    with path.open("ab") as file:
        file.write(line("one") + line("two"))
    assert [e.message for e in follower.read() if isinstance(e, Warned)] == ["one", "two"]
    assert list(follower.read()) == []
    follower.close()


def test_a_line_that_is_not_whole_waits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    text = line("whole")
    with path.open("ab", buffering=0) as file:
        file.write(text[:20])
        assert list(follower.read()) == []
        file.write(text[20:])
    assert len(list(follower.read())) == 1
    follower.close()


def test_a_line_longer_than_a_block_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    path.write_bytes(line("x" * (2 * _MOST)) + line("short"))
    assert [len(e.message) for e in follower.read() if isinstance(e, Warned)] == [2 * _MOST, 5]
    follower.close()


def test_events_have_the_declared_types(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    told = Timeline(
        time_s=1.0, step=0, worker=0, began_s=1.0, rows=[("F 0:1 m0", 0.0, 1.0)], peak_bytes=0
    )
    path.write_bytes(told.to_json().encode() + b"\n")
    assert list(follower.read()) == [told]
    follower.close()


def test_what_is_no_event_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    path.write_bytes(b"no event\n")
    with pytest.raises(LogError, match="is no event"):
        list(follower.read())
    follower.close()
