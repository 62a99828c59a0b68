"""The generated stubs are those of the proto that is in the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ithaca.runtime.control import generate

SCRIPT = Path(generate.__file__).resolve()


def test_the_script_makes_the_stubs_that_are_in_use(tmp_path: Path) -> None:
    for name in (SCRIPT.name, "control.proto"):
        shutil.copy(SCRIPT.parent / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, tmp_path / SCRIPT.name], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for stub in generate.STUBS:
        assert (tmp_path / stub).read_bytes() == (SCRIPT.parent / stub).read_bytes(), (
            f"{stub} is stale: run python runtime/control/generate.py"
        )
    assert len(list(tmp_path.iterdir())) == 2 + len(generate.STUBS)


def test_a_broken_proto_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path / SCRIPT.name)
    (tmp_path / "control.proto").write_text("service {")
    done = subprocess.run(
        [sys.executable, tmp_path / SCRIPT.name], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "no gRPC stubs were made" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["control.proto", SCRIPT.name]
