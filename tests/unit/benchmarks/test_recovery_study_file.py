"""The study's file: a run that was killed goes on, and ends with the same rows."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks.recovery_study import __main__ as command
from benchmarks.recovery_study import job
from benchmarks.recovery_study.chart import chart
from benchmarks.recovery_study.job import Job
from benchmarks.recovery_study.layouts import Layouts
from benchmarks.recovery_study.sheet import Sheet
from benchmarks.recovery_study.study import COLUMNS, KEY, Cell, study
from benchmarks.recovery_study.table import tables
from benchmarks.recovery_study.traces import Change, Trace
from ithaca.planner.plan import Plan
from tests.helpers.cluster_sample import layouts, small_job, write

TRACE = Trace("short", 1000.0, frozenset(range(12)), (Change(300.0, frozenset({2})),))
NAMES = ("checkpoint-tuned", "oobleck-tuned", "odyssey-published", "ours")
CELLS = [Cell("small", "fast", TRACE, name) for name in NAMES]


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Layouts that are known already, and a small job in place of the published one."""

    def read(folder: Path, name: str) -> Job:
        return small_job()

    monkeypatch.setattr(job, "read", read)
    path = tmp_path / "layouts.csv"
    kept = Layouts(path, "small", "fast")
    kept.update(layouts(small_job(), 12))
    return path


def rows(path: Path, cells: list[Cell], known: Path) -> Generator[str, None, None]:
    return study(Path(), cells, Sheet(path, COLUMNS, KEY), known)


def test_a_killed_run_goes_on_and_ends_alike(tmp_path: Path, known: Path) -> None:
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert len(list(rows(whole, CELLS, known))) == len(CELLS)
    first = rows(killed, CELLS, known)
    next(first)
    next(first)
    first.close()
    text = killed.read_text()
    killed.write_text(text[:-7])  # killed while the second row was written
    assert len(list(rows(killed, CELLS, known))) == len(CELLS) - 1
    assert killed.read_text() == whole.read_text()
    assert list(rows(killed, CELLS, known)) == []


def test_every_figure_is_labelled(tmp_path: Path, known: Path) -> None:
    path = tmp_path / "rows.csv"
    list(rows(path, CELLS, known))
    found = Sheet(path, COLUMNS, KEY).rows
    assert {row["kind"] for row in found} == {"simulated"}
    text = tables(found)
    assert text.count("simulated") == 2
    assert "| oobleck-tuned | 1 |" in text
    assert "clairvoyant bound" in text
    assert "(simulated" in chart(found)
    assert "short: " in chart(found)


def test_a_file_with_other_columns_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="move it away or name another file"):
        Sheet(path, COLUMNS, KEY)
    assert path.read_text() == "a,b\n1,2\n"


def test_layouts_are_read_back(known: Path) -> None:
    kept = Layouts(known, "small", "fast")
    plan = kept[12]
    assert isinstance(plan, Plan)
    assert len(plan.workers) == 12
    assert kept[3] is None
    assert 12 not in Layouts(known, "small", "exact")


def test_the_folder_is_asked_for_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, text in (
        ([], "data_folder"),
        ([str(tmp_path / "nowhere")], "cannot be used"),
    ):
        monkeypatch.setattr(sys, "argv", ["recovery_study", *arguments])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        assert text in capsys.readouterr().err


def test_cells_are_listed_without_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path)
    result = str(tmp_path / "rows.csv")
    wanted = ["--list", "--result", result, "--cells", "parcae-hh", "fast"]
    monkeypatch.setattr(sys, "argv", ["recovery_study", str(folder), *wanted])
    command.main()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 15
    assert "gpt-1.5b fast parcae-hh ours" in "\n".join(told)
