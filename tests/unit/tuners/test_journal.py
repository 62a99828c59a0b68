"""The journal of a search: on a full disk, under two writers, with another budget than before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ithaca.runtime.errors import UnwritableError
from ithaca.tuners import journal as journal_module
from ithaca.tuners.arm import Arm
from ithaca.tuners.journal import Journal, JournalError, open_journal, read_journal
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Space
from ithaca.tuners.trial import Extended
from ithaca.tuners.tuner import Tuner
from tests.helpers.full_disk import FullDisk
from tests.helpers.mutated import mutated

SETTINGS = Settings(policy="random", surrogate="random", num_trials=8, seed=3)
ARMS = (Arm("one", Space.parse({"x": {"float": [0.0, 1.0]}})),)


def events(search: Search, journal: Journal) -> Iterator[int]:
    """Trials one after the other, each written down when it is asked for and when it is told."""
    while (asked := search.ask(0.0)) is not None:
        journal.write(asked)
        value = float(asked.trial % 3)
        journal.write(search.tell(asked.trial, value, now_s=0.0, cost_s=1.0))
        yield asked.trial


def whole(path: Path) -> bytes:
    """The journal of a search that met with nothing."""
    journal, search = open_journal(path, SETTINGS, ARMS)
    with journal:
        assert list(events(search, journal)) == list(range(8))
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_journal_that_a_full_disk_ended_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Wherever it ended: what is there is a beginning of the undisturbed one, in whole lines."""
    undisturbed = whole(tmp_path / "whole")
    path = tmp_path / "journal"
    journal, search = open_journal(path, SETTINGS, ARMS)
    with monkeypatch.context() as full, journal:
        begun = path.stat().st_size
        full.setattr(os, "write", FullDisk(int(share * (len(undisturbed) - begun))))
        with pytest.raises(UnwritableError, match=r"journal cannot be written: No space left"):
            list(events(search, journal))
    read_journal(path)
    after, again = open_journal(path, SETTINGS, ARMS)
    with after:
        assert undisturbed.startswith(path.read_bytes())
        for trial in again.running:
            after.write(again.lose(trial.number, now_s=0.0, cost_s=0.0))
        list(events(again, after))
    found, _ = read_journal(path)
    assert found.state_dict() == again.state_dict()


def test_behind_an_event_that_is_not_there_none_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if there is room again: they could not be applied."""
    path = tmp_path / "journal"
    journal, search = open_journal(path, SETTINGS, ARMS)
    with monkeypatch.context() as full:
        full.setattr(os, "write", FullDisk(0))
        with pytest.raises(UnwritableError):
            list(events(search, journal))
    with pytest.raises(UnwritableError):
        list(events(search, journal))
    journal.close()
    assert read_journal(path)[1] == []


def test_a_journal_that_cannot_be_begun_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with monkeypatch.context() as full:
        full.setattr(os, "write", FullDisk(9))
        with pytest.raises(UnwritableError):
            open_journal(path, SETTINGS, ARMS)
    assert not path.exists()
    with pytest.raises(UnwritableError, match="No such file or directory"):
        open_journal(tmp_path / "nowhere" / "journal", SETTINGS, ARMS)


def test_two_searches_do_not_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    space = {"x": {"float": [0.0, 1.0]}}
    one = Tuner(space, journal=path, surrogate="random")
    two = Tuner(space, journal=path, surrogate="random")
    two.ask()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="written by somebody else"):
        one.ask()
    two.ask()
    assert path.read_bytes().startswith(before)
    one.close()
    two.close()
    assert len(read_journal(path)[1]) == 2


def test_a_closed_journal_is_no_full_disk(tmp_path: Path) -> None:
    journal, search = open_journal(tmp_path / "journal", SETTINGS, ARMS)
    journal.close()
    with pytest.raises(ValueError, match="is closed"):
        next(events(search, journal))


def test_a_search_goes_on_to_another_number_of_trials(tmp_path: Path) -> None:
    """With what it knows; and whoever reads the journal later has the same search."""
    path = tmp_path / "journal"
    before = whole(path)
    for count in (12, 12, 15):
        journal, search = open_journal(path, replace(SETTINGS, num_trials=count), ARMS)
        with journal:
            list(events(search, journal))
        assert len(search.trials) == count
        assert read_journal(path)[0].state_dict() == search.state_dict()
    assert path.read_bytes().startswith(before)
    assert [type(event) for event in read_journal(path)[1]].count(Extended) == 2
    with pytest.raises(JournalError, match=r"other settings; these differ: settings\.seed\. Go on"):
        open_journal(path, replace(SETTINGS, num_trials=15, seed=4), ARMS)


def test_a_budget_stays_in_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole(path)
    with pytest.raises(JournalError, match="another budget: what a budget is counted in stays"):
        open_journal(path, replace(SETTINGS, num_trials=None, budget_s=60.0), ARMS)


def test_the_published_policy_keeps_its_budget(tmp_path: Path) -> None:
    """It has dealt it out."""
    path, published = tmp_path / "journal", replace(SETTINGS, policy="boasf")
    open_journal(path, published, ARMS)[0].close()
    open_journal(path, published, ARMS)[0].close()
    with pytest.raises(JournalError, match="boasf deals its whole budget out beforehand"):
        open_journal(path, replace(published, num_trials=9), ARMS)


@pytest.mark.parametrize("end", ["", "\n", "\nand more"])
@pytest.mark.parametrize("line", ["7", "[]", "{}", '{"settings": 3}', "steps: 3"])
def test_another_file_is_no_journal_and_stays_as_it_is(tmp_path: Path, line: str, end: str) -> None:
    path = tmp_path / "journal"
    path.write_text(line + end)
    with pytest.raises(JournalError, match="not a journal of a search"):
        open_journal(path, SETTINGS, ARMS)
    assert path.read_text() == line + end


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read: Is a directory"):
        open_journal(tmp_path, SETTINGS, ARMS)


def test_an_oracle_of_that_sees_a_file_that_is_cut_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = mutated(monkeypatch, journal_module, "        _check_torn(path)\n", "        pass\n")
    path = tmp_path / "journal"
    path.write_text("steps: 3")
    mutant.open_journal(path, SETTINGS, ARMS)[0].close()
    assert not path.read_text().startswith("steps")


@pytest.mark.parametrize("length", [0, 1, 11, 12, 40])
def test_a_first_line_that_was_cut_short_is_written_anew(tmp_path: Path, length: int) -> None:
    undisturbed = whole(tmp_path / "whole")
    path = tmp_path / "journal"
    path.write_bytes(undisturbed[:length])
    assert whole(path) == undisturbed
