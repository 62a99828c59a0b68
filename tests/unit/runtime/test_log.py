"""The event log: crashes, full disks, damage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ithaca.runtime import lines, trim
from ithaca.runtime.events import CheckpointWritten, Event, RunEnded, StepDone, Warned
from ithaca.runtime.log import EventLog, LogError, read
from tests.helpers.full_disk import FullDisk


def warned(number: int) -> Warned:
    return Warned(time_s=float(number), message=f"message {number}")


def write(path: Path, *events: Event) -> None:
    with EventLog(path, warn=pytest.fail) as target:
        for event in events:
            target(event)


def test_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, warned(1), warned(2))
    write(path, warned(3))
    assert read(path) == [warned(1), warned(2), warned(3)]


def test_every_event_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, warn=pytest.fail) as target:
        for number in range(3):
            target(warned(number))
            assert len(read(path)) == number + 1


def test_a_cut_anywhere_costs_the_last_event_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path = tmp_path / "events.jsonl"
    write(path, warned(1), warned(2))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        before = [warned(1)] if cut >= first else []
        assert read(path) == before
        write(path, warned(3))
        assert read(path) == [*before, warned(3)]


def test_without_the_trim_a_cut_line_would_spoil_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    write(path, warned(1), warned(2))
    path.write_bytes(path.read_bytes()[:-5])
    monkeypatch.setattr(lines, "trim", lambda file: os.fstat(file).st_size)
    write(path, warned(3))
    with pytest.raises(LogError):
        read(path)


def test_a_long_cut_line_is_trimmed_too(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, warned(1))
    with path.open("ab") as file:
        file.write(b"x" * (trim._BLOCK * 2 + 17))
    write(path, warned(2))
    assert read(path) == [warned(1), warned(2)]


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, warned(1), warned(2), warned(3))
    good = path.read_text().splitlines(keepends=True)
    for damage, word in [
        ('{"kind":"nonsense"}\n', "not an event"),
        ("\x00\x00\x00\n", "line 2"),
        ('{"kind":"warned","time_s":"soon","message":"m"}\n', "time_s"),
        ('{"kind":"warned","time_s":1.0}\n', "message"),
        ("\n", "line 2"),
        ('{"kind":[]}\n', "line 2"),
        ("[" * 100_000 + "\n", "line 2"),
        ('{"kind":"warned","time_s":NaN,"message":"m"}\n', "finite"),
    ]:
        path.write_text(good[0] + damage + good[2])
        with pytest.raises(LogError, match="line 2") as caught:
            read(path)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(LogError, match="line 1"):
        read(path)


def test_full_disk_holds_events_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    warnings: list[str] = []
    disk = FullDisk(room=100)
    monkeypatch.setattr(os, "write", disk)
    with EventLog(path, warn=warnings.append) as target:
        for number in range(6):
            target(warned(number))
        assert len(warnings) == 1
        assert "No space left" in warnings[0]
        assert str(path) in warnings[0]
        disk.room = 10**6
        target(warned(6))
        assert target.lost == 0
    assert read(path) == [warned(number) for number in range(7)]


def test_a_second_outage_warns_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    disk = FullDisk(room=0)
    monkeypatch.setattr(os, "write", disk)
    with EventLog(tmp_path / "events.jsonl", warn=warnings.append) as target:
        for room in (0, 0, 10**6, 0, 0):
            disk.room = room
            target(warned(room))
        disk.room = 10**6
    assert len(warnings) == 2


def test_lost_events_are_counted_and_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    disk = FullDisk(room=70)
    monkeypatch.setattr(os, "write", disk)
    warnings: list[str] = []
    with EventLog(path, warn=warnings.append, hold=2) as target:
        for number in range(6):
            target(warned(number))
        assert target.lost == 3
        disk.room = 10**6
        target(warned(6))
    events = read(path)
    assert events[0] == warned(0)
    assert isinstance(events[1], Warned)
    assert "4 events lost here" in events[1].message
    assert events[2:] == [warned(5), warned(6)]
    assert target.lost == 4


def test_the_device_that_is_always_full() -> None:
    warnings: list[str] = []
    target = EventLog("/dev/full", warn=warnings.append, hold=3)
    for number in range(5):
        target(warned(number))
    target.close()
    target.close()
    assert len(warnings) == 1
    assert target.lost == 5


def test_important_events_are_synchronised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    step = StepDone(
        time_s=1.0, step=1, generation=0, loss=1.0, auxiliary=0.0, norm=1.0, lr=1.0, count=1,
        samples=1,
        seconds=1.0,
    )  # fmt: skip
    saved = CheckpointWritten(time_s=1.0, step=1, path="p", bytes=1, seconds=1.0, state_hash="0")
    target = EventLog(tmp_path / "events.jsonl", warn=pytest.fail)
    for event, total in [
        (step, 0),
        (saved, 1),
        (step, 1),
        (RunEnded(time_s=1.0, outcome="finished", step=1, reason=""), 2),
    ]:
        target(event)
        assert len(synced) == total
    target.close()


def test_a_failing_sync_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    warnings: list[str] = []
    path = tmp_path / "events.jsonl"
    with EventLog(path, warn=warnings.append) as target:
        target(RunEnded(time_s=1.0, outcome="finished", step=1, reason=""))
    assert warnings
    assert "Input/output error" in warnings[0]
    assert len(read(path)) == 1


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold"):
        EventLog(tmp_path / "events.jsonl", warn=pytest.fail, hold=0)
    target = EventLog(tmp_path / "events.jsonl", warn=pytest.fail)
    target.close()
    with pytest.raises(ValueError, match="closed"):
        target(warned(1))
    with pytest.raises(FileNotFoundError):
        EventLog(tmp_path / "missing" / "events.jsonl", warn=pytest.fail)
