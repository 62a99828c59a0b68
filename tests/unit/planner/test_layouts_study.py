"""The study of measured layouts runs on any file of its form and says what it cannot read."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

STUDY = Path(__file__).parents[3] / "benchmarks" / "layouts.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the study as a script."""
    monkeypatch.setattr(sys, "argv", [str(STUDY), *arguments])
    runpy.run_path(str(STUDY), run_name="__main__")


def data() -> dict[str, Any]:
    """Steps that take what their slowest stage takes, without messages."""
    kind = {"forward_ms": 1.0, "backward_ms": 2.0, "optimizer_ms": 0.5, "params": 1000}
    steps = [
        {"pipelines": 1, "stages": s, "step_ms": 3.0 * -(-50 // s) * (128 + s - 1)}
        for s in (5, 10, 2, 1, 4, 3, 6, 8)
    ]
    return {
        "layers": {"gpt-1.5b/mb1": {"embed": kind, "block": kind, "head": kind}},
        "p2p_us_by_bytes": {"4": 100.0, "4194304": 5000.0},
        "measured_steps": {"gpt-1.5b_mb1_batch128": steps},
    }


def test_writes_a_row_per_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v100_profiles.json").write_text(json.dumps(data()))
    run(monkeypatch, str(tmp_path), "--result", str(tmp_path / "out" / "rows.csv"))
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").open()))
    assert [row["rows"] for row in rows] == ["even", "odd"] * 4
    for row in rows:
        assert float(row["closed_form_s"]) == pytest.approx(float(row["measured_s"]), rel=0.05)
        assert float(row["simulated_s"]) == pytest.approx(float(row["measured_s"]), rel=0.1)
    assert "best on even rows" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_file_that_cannot_be_used_ends_with_one_message(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
) -> None:
    if content is not None:
        (tmp_path / "v100_profiles.json").write_text(content)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, str(tmp_path), "--result", str(tmp_path / "rows.csv"))
    assert ended.value.code == 2
    assert "v100_profiles.json cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "rows.csv").exists()
