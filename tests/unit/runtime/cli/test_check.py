"""``ithaca check`` and ``ithaca plan`` on good jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program
from ithaca.runtime.cli.main import main

Capture = pytest.CaptureFixture[str]

TEXT = """\
name: toy
workload:
  use: lm
  dim: 32
  num_layers: 2
  num_heads: 2
  context: 16
  batch_size: 2
  tied: true
steps: 4
layout:
  pipelines: 2
  stages: [2, 1]
  micro_batches: 5
"""


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(TEXT)


def test_check_tells_everything_and_writes_nothing(capsys: Capture) -> None:
    assert main(["check", "job.yaml", "detect=4s", "layout.memory=1KiB"]) == 0
    out = capsys.readouterr().out
    rows = {tuple(line.split()) for line in out.splitlines()}
    assert ("workload.dim", "32", "job.yaml:4:8") in rows
    assert ("detect", "4s", "override", "1") in rows
    assert ("seed", "0", "default") in rows
    assert "timeouts, all from detect = 4s" in out
    assert ("suspect", "4s", "without", "progress:", "the", "worker", "is", "suspected") in rows
    assert "0  embed" in out
    assert "  plan generation=0 schedule=1f1b" in out
    assert "warning: w0, w1, w2 above layout.memory, 1.0 KiB" in out
    assert "ms predicted" in out
    assert [path.name for path in Path().iterdir()] == ["job.yaml"]


def test_plan_is_the_plan(capsys: Capture) -> None:
    assert main(["plan", "job.yaml"]) == 0
    plan = Plan.parse(capsys.readouterr().out.split("\n\n")[0])
    assert [len(pipeline.stages) for pipeline in plan.pipelines] == [2, 1]
    assert plan.num_micro_batches == 5


def test_programs_and_timeline(capsys: Capture) -> None:
    assert main(["plan", "job.yaml", "--programs", "--timeline"]) == 0
    parts = capsys.readouterr().out.split("\n\n")
    programs = [Program.parse(part) for part in parts if part.startswith("program ")]
    assert [program.worker for program in programs] == [0, 1, 2]
    chart = parts[-1].splitlines()
    assert [line.split()[0] for line in chart[:3]] == ["w0", "w1", "w2"]
    assert "F0" in chart[0] + chart[1] + chart[2]
    assert len({len(line) for line in chart[:3]}) == 1


def test_json(capsys: Capture) -> None:
    assert main(["plan", "job.yaml", "--json", "--workers", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    plan = Plan.parse(found["plan"])
    assert set(found["programs"]) == {str(worker) for worker in plan.workers}
    assert len(plan.workers) <= 2
    assert found["step_s"] > 0
    assert all(rows for rows in found["timeline"].values())


@pytest.mark.parametrize("count", ["0", "-1", "x", "1e3", "99999"])
def test_no_such_number_of_workers(count: str, capsys: Capture) -> None:
    assert main(["plan", "job.yaml", f"--workers={count}"]) == 2
    assert "not a number from 1 to" in capsys.readouterr().err
