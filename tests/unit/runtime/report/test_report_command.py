"""``ithaca report``: both files, or one clear message and nothing written."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ithaca.runtime.cli import report
from ithaca.runtime.errors import UserError
from ithaca.runtime.log import EventLog
from ithaca.tuners.loop.coordinator import Coordinator
from ithaca.tuners.loop.load import load_tune
from tests.helpers.fake_run import FakeRun
from tests.helpers.fake_tune import FakeCrew, FakeDisk, value

CONFIGS = Path(__file__).parents[4] / "configs"


def ithaca(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    report.register(parser.add_subparsers())
    args = parser.parse_args(["report", *map(str, words)])
    code = args.run(args)
    assert isinstance(code, int)
    return code


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    with EventLog(folder / "events.jsonl", warn=pytest.fail) as log:
        for event in FakeRun(steps=5).events():
            log(event)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_beside_the_log(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ithaca(run_folder) == 0
    assert names(run_folder) == ["events.jsonl", "report.html", "trace.json"]
    told = capsys.readouterr().out
    assert str(run_folder / "report.html") in told
    assert str(run_folder / "trace.json") in told


def test_writes_where_it_is_told_to(run_folder: Path, tmp_path: Path) -> None:
    page, trace = tmp_path / "a.html", tmp_path / "b.json"
    assert ithaca(run_folder, "--out", page, "--trace", trace) == 0
    assert names(run_folder) == ["events.jsonl"]
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert trace.read_text().startswith('{"traceEvents"')


def test_a_second_report_replaces_the_first(run_folder: Path) -> None:
    (run_folder / "report.html").write_text("old")
    ithaca(run_folder)
    assert "quickstart" in (run_folder / "report.html").read_text()


def test_a_log_that_is_being_written_is_enough(run_folder: Path) -> None:
    log = run_folder / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert ithaca(run_folder) == 0
    assert "no end" in (run_folder / "report.html").read_text()


def test_bad_input_is_refused_with_one_message(run_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "events.jsonl").write_text("{}\n")
    cases: list[tuple[list[str | Path], str]] = [
        ([tmp_path / "missing"], "does not exist"),
        ([run_folder / "events.jsonl"], "no run folder"),
        ([empty], "no run folder"),
        ([damaged], "line 1"),
        ([run_folder, "--out", tmp_path], "is a folder"),
        ([run_folder, "--trace", tmp_path / "no" / "t.json"], "does not exist"),
        ([run_folder, "--out", run_folder / "events.jsonl"], "is the log"),
        ([run_folder, "--out", tmp_path / "x", "--trace", tmp_path / "x"], "two names"),
    ]
    before = {path: names(path) for path in (run_folder, tmp_path, empty, damaged)}
    for words, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            ithaca(*words)
        assert "\n" not in str(caught.value)
    assert before == {path: names(path) for path in before}


@pytest.fixture
def search_folder(tmp_path: Path) -> Path:
    """A search that was killed: nobody has written its page."""
    folder = tmp_path / "search"
    folder.mkdir()
    search = load_tune(CONFIGS / "tune_quick.yaml", ["surrogate=random"])
    crew = FakeCrew(2, value, disk=FakeDisk(), now=0.0)
    one = Coordinator(search, folder, crew, crew.clock, frozenset(crew.processes), crew.disk)
    for _ in range(60):
        one.turn(0.05)
    one.close()
    return folder


def test_a_search_has_a_page(search_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(search_folder)
    assert ithaca(search_folder) == 0
    assert names(search_folder) == sorted([*before, "report.html"])
    assert str(search_folder / "report.html") in capsys.readouterr().out
    page = (search_folder / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "optimizer.lr" in page
    elsewhere = search_folder.parent / "page.html"
    assert ithaca(search_folder, "--out", elsewhere) == 0
    assert elsewhere.read_text() == page
    with pytest.raises(UserError, match="has no trace; leave --trace away"):
        ithaca(search_folder, "--trace", elsewhere)
    with pytest.raises(UserError, match="is the log"):
        ithaca(search_folder, "--out", search_folder / "runs.jsonl")
    (search_folder / "runs.jsonl").write_text('{"kind": "took"}\n')
    with pytest.raises(UserError, match=r"runs.jsonl:1: damaged: "):
        ithaca(search_folder)


def test_a_full_disk_is_a_message(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(events: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_page", full)
    with pytest.raises(UserError, match="No space left"):
        ithaca(run_folder)
