"""The study of planning goes on where it stopped, and measures what it says."""

from __future__ import annotations

import csv
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.validate import validate
from tests.helpers.layouts import layouts

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The study's module, made small."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "planning", raising=False)
    module = import_module("planning")
    monkeypatch.setattr(module, "SIZES", (module.Size(2, 2, 4, 4),))
    monkeypatch.setattr(module, "LOST", (1,))
    monkeypatch.setattr(module, "REPEATS", 1)
    monkeypatch.setattr(module, "SMALL_CASES", 2)
    monkeypatch.setattr(module, "LONG", module.Effort(2, 1.0, 1, 2, 2))
    return module


def test_cell_by_cell(
    study: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = tmp_path / "out" / "planning.csv"
    monkeypatch.setattr(sys, "argv", ["planning.py", "--csv", str(result)])
    study.main()
    rows = list(csv.DictReader(result.open()))
    assert {row["what"] for row in rows} == {"front", "reroute", "all layouts", "long search"}
    assert all(float(row["quality"]) <= 1.01 for row in rows if row["quality"])
    lines = result.read_text().splitlines(keepends=True)
    result.write_text("".join(lines[:-1]))  # as if it had been cut short
    capsys.readouterr()
    study.main()
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert len(list(csv.DictReader(result.open()))) == len(rows)


def test_all_layouts_are_all(study: ModuleType) -> None:
    schedule = study.Schedule.GPIPE
    found = [str(plan) for plan in study.every_layout(3, 3, 3, schedule)]
    assert sorted(found) == sorted(str(plan) for plan in layouts(3, 3, 3, schedule))


def test_the_profile_can_be_simulated(study: ModuleType) -> None:
    plan = next(study.every_layout(4, 2, 3, study.Schedule.ONE_F_ONE_B))
    made = programs(plan)
    validate(made, plan=plan)
    assert simulate(made, study.transformer(4)).step_s > 0
