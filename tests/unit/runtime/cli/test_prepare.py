"""``ithaca prepare``: mistakes are told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ithaca.runtime.cli.main import main

ROOT = Path(__file__).parents[4]
QUICK = str(ROOT / "configs" / "csgnn_quick.yaml")


def test_a_job_without_a_folder_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", QUICK]) == 2
    assert "keeps nothing on disk that could be prepared" in capsys.readouterr().err


def test_no_worker_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", QUICK, "--workers", "0"]) == 2
    assert "--workers is 0; at least 1" in capsys.readouterr().err


def test_data_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = yaml.safe_load(Path(QUICK).read_text())
    job["workload"]["data"] = {"file": str(tmp_path / "absent.npz"), "cache": str(tmp_path)}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    assert main(["prepare", str(path)]) == 2
    assert "cannot read the graphs in" in capsys.readouterr().err
