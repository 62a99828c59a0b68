"""control.json: who may read it, that it is whole, and what is said when it is not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ithaca.runtime.control.credentials import FILE, Credentials, new_token
from ithaca.runtime.control.trouble import ControlError, Trouble


def credentials() -> Credentials:
    return Credentials("127.0.0.1:4711", new_token(), 99, 1.5)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = credentials()
    assert written.write(tmp_path) == tmp_path / FILE
    assert Credentials.read(tmp_path) == written
    assert json.loads((tmp_path / FILE).read_text()).keys() == {
        "address",
        "token",
        "pid",
        "started",
    }


def test_only_the_owner_may_read_it_whatever_the_umask_and_whatever_was_there(
    tmp_path: Path,
) -> None:
    (tmp_path / FILE).write_text("{}")
    (tmp_path / FILE).chmod(0o666)
    before = os.umask(0)
    try:
        path = credentials().write(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = credentials()
    old.write(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        credentials().write(tmp_path)
    assert Credentials.read(tmp_path) == old
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_the_token_is_not_shown() -> None:
    mine = credentials()
    assert mine.token not in repr(mine)
    assert len(mine.token) >= 43
    assert new_token() != new_token()


def test_a_folder_without_the_file_is_a_run_that_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="is not running") as caught:
        Credentials.read(tmp_path)
    assert caught.value.trouble is Trouble.ABSENT
    with pytest.raises(ControlError, match="there is no run folder"):
        Credentials.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"address": "127.0.0.1:1"}',
        b'{"address": 1, "token": "t", "pid": 1, "started": 1}',
        b'{"address": "127.0.0.1:1", "token": "t", "pid": "1", "started": 1}',
        b"[" * 70000,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(ControlError, match=r"control\.json is damaged"):
        Credentials.read(tmp_path)


def test_removing_leaves_the_file_of_another_run_alone(tmp_path: Path) -> None:
    mine, other = credentials(), credentials()
    other.write(tmp_path)
    mine.remove(tmp_path)
    assert Credentials.read(tmp_path) == other
    other.remove(tmp_path)
    other.remove(tmp_path)
    assert not list(tmp_path.iterdir())
