"""The journal: what was written is read by the next controller, torn tails and all."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.errors import UserError
from ithaca.runtime.journal import (
    FILE,
    Choosing,
    Closed,
    Entry,
    Fencing,
    Joining,
    Journal,
    Opened,
    Settled,
    parse,
)

PLAN = "plan generation=1 schedule=1f1b\npipeline 0-3 0:8@w0"
TIME = st.floats(0, 1e12)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**40)
ENTRY: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Opened, time_s=TIME, run=TEXT, pid=NUMBER),
    st.builds(
        Fencing,
        time_s=TIME,
        generation=NUMBER,
        lost=st.dictionaries(NUMBER.map(str), TEXT, max_size=3),
        trusted=st.none() | NUMBER,
    ),
    st.builds(
        Choosing, time_s=TIME, generation=NUMBER, strategy=TEXT, plan=st.none() | st.just(PLAN)
    ),
    st.builds(Settled, time_s=TIME, generation=NUMBER, plan=st.just(PLAN)),
    st.builds(Joining, time_s=TIME, worker=NUMBER, node=TEXT),
    st.builds(Closed, time_s=TIME, outcome=TEXT),
)


class Warnings(list[str]):
    """What the journal warned of."""


def journal(folder: Path, run: str = "a", warned: Warnings | None = None) -> Journal:
    return Journal(folder, run, warn=(warned if warned is not None else Warnings()).append)


def fencing(generation: int, **lost: str) -> Fencing:
    return Fencing(time_s=1.0, generation=generation, lost={w[1:]: why for w, why in lost.items()})


@given(ENTRY)
def test_an_entry_reads_back(entry: Entry) -> None:
    assert parse(str(entry)) == entry
    assert "\n" not in str(entry)


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", '{"kind":"opened"}', '{"kind":"of tomorrow","time_s":1}', "{"]
)
def test_what_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse(line)


def test_an_entry_of_an_older_version_is_read() -> None:
    line = '{"kind":"fencing","time_s":1.0,"generation":2,"lost":{}}'
    assert parse(line) == fencing(2)


def test_what_may_not_be_trusted_is_known_until_all_have_gone_back(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.open()
        first.write(Fencing(time_s=1.0, generation=1, lost={}, trusted=4))
        first.write(fencing(2))
        first.write(Fencing(time_s=1.0, generation=3, lost={}, trusted=6))
    with journal(tmp_path) as second:
        assert second.history.trusted == 4
        second.write(Settled(time_s=1.0, generation=3, plan=PLAN))
        assert second.history.trusted is None


def test_the_next_controller_knows_what_the_last_one_did(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        assert first.open() == 0
        first.write(Settled(time_s=1.0, generation=0, plan=PLAN))
        first.write(fencing(1, w3="its process died"))
        first.write(Choosing(time_s=1.0, generation=1, strategy="reroute", plan=PLAN))
    with journal(tmp_path) as second:
        history = second.history
        assert second.open() == 1
    assert (history.generation, history.plan, history.unsettled) == (1, PLAN, True)
    assert history.lost == {3: "its process died"}
    assert history.outcome is None


def test_a_settled_generation_is_settled(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.open()
        first.write(fencing(1))
        first.write(Settled(time_s=1.0, generation=1, plan=PLAN))
        first.write(Joining(time_s=1.0, worker=4, node="n"))
        first.write(Closed(time_s=1.0, outcome="finished"))
    with journal(tmp_path) as second:
        history = second.history
    assert not history.unsettled
    assert history.joined == {4: "n"}
    assert history.outcome == "finished"


def test_another_run_in_the_folder_is_no_history_of_this_one(tmp_path: Path) -> None:
    with journal(tmp_path, "a") as old:
        old.open()
        old.write(fencing(7, w1="gone"))
    with journal(tmp_path, "b") as new:
        assert new.open() == 0
        assert (new.history.generation, new.history.lost) == (-1, {})


@settings(max_examples=40, deadline=None)
@given(
    entries=st.lists(ENTRY.filter(lambda e: not isinstance(e, Opened)), max_size=6),
    part=st.floats(0, 1),
)
def test_a_torn_tail_costs_the_last_entry_alone(
    entries: list[Entry], part: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    with journal(folder) as first:
        first.open()
        for entry in entries:
            first.write(entry)
    text = (folder / FILE).read_bytes()
    cut = int(part * len(text))
    (folder / FILE).write_bytes(text[:cut])
    whole = text[:cut].count(b"\n")
    warned = Warnings()
    with journal(folder, warned=warned) as second:
        assert warned == []
        second.write(Closed(time_s=1.0, outcome="finished"))
    lines = (folder / FILE).read_text().splitlines()
    assert lines[:-1] == text.decode().splitlines()[:whole]
    assert parse(lines[-1]) == Closed(time_s=1.0, outcome="finished")


def test_a_damaged_line_is_left_out_and_told(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.open()
    with (tmp_path / FILE).open("a") as file:
        file.write("no entry\n")
    warned = Warnings()
    with journal(tmp_path, warned=warned) as second:
        assert second.history.controllers == 1
    assert len(warned) == 1
    assert "line 2" in warned[0]


def test_every_entry_is_on_the_disk_before_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counting(file: int) -> None:
        synced.append((tmp_path / FILE).read_bytes().count(b"\n"))
        fsync(file)

    monkeypatch.setattr(os, "fsync", counting)
    with journal(tmp_path) as first:
        first.open()
        first.write(fencing(1))
    assert synced == [1, 2]


def test_a_full_disk_is_told_once_and_the_history_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = Warnings()
    with journal(tmp_path, warned=warned) as first:
        first.open()
        with monkeypatch.context() as full:

            def refuse(file: int, data: bytes) -> int:
                raise OSError(28, "No space left on device")

            full.setattr(os, "write", refuse)
            first.write(fencing(1))
            first.write(fencing(2))
        assert len(warned) == 1
        assert "No space left" in warned[0]
        assert first.history.generation == 2
        first.write(fencing(3))
    with journal(tmp_path) as second:
        assert second.history.generation == 3


def test_two_controllers_do_not_write_one_journal(tmp_path: Path) -> None:
    with journal(tmp_path), pytest.raises(UserError, match="is in use"):
        Journal(tmp_path, "b", warn=Warnings().append, wait_s=0.0)
    with journal(tmp_path) as after:
        assert stat.S_IMODE(after.path.stat().st_mode) == 0o600


def test_the_oracle_of_the_lock_sees_a_journal_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with journal(tmp_path), journal(tmp_path):
        pass
