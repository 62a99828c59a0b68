"""Findings about a machine, and what follows from them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import ray  # noqa: F401 - sets a variable of the environment when it is first imported

from ithaca.runtime import doctor
from ithaca.runtime.cli.main import main
from ithaca.runtime.doctor import Finding, Level

Capture = pytest.CaptureFixture[str]


def fail(name: str) -> object:
    """An import that fails."""
    raise ImportError(f"no {name}\nwith a second line")


def test_what_is_missing_says_what_to_do() -> None:
    found = [
        doctor.python((3, 10, 0)),
        doctor.torch(fail),
        doctor.extension(fail),
        doctor.package("ray", fail),
        doctor.stubs(fail),
        doctor.loopback("192.0.2.1"),
        doctor.run_folder(Path("/proc/runs")),
    ]
    for finding in found:
        assert finding.level is Level.MISSING
        assert finding.todo
        assert "\n" not in finding.text
    assert not doctor.can_run(found)


def test_what_is_only_a_pity(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8 kB\nMemAvailable: 4 kB\n")
    found = [
        doctor.memory(meminfo),
        doctor.memory(tmp_path / "none"),
        doctor.shared_memory(tmp_path / "none"),
        doctor.open_files(lambda kind: (256, resource.RLIM_INFINITY)),
        doctor.compiler(lambda name: None),
    ]
    for finding in found:
        assert finding.level is Level.WARN
        assert finding.todo
    assert doctor.can_run(found)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    finding = doctor.run_folder(tmp_path / "a" / "b")
    assert finding.level is not Level.MISSING
    assert list(tmp_path.iterdir()) == []


def test_on_this_machine(tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for name in ("python", "torch", "ray", "ithaca._C", "loopback", "/dev/shm"):
        assert f" {name} " in out
    assert out.endswith("A job can run here.\n")


def test_one_thing_missing_is_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    broken = Finding("torch", Level.MISSING, "none", "install it")
    monkeypatch.setattr("ithaca.runtime.cli.doctor.examine", lambda folder: iter([broken]))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "-> install it" in out
    assert "missing: torch" in out
