"""Set-up: what it says when a machine lacks something, and that everything is pinned."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.house.source import ROOT, expect_none

FILES = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """``requirements/check.py``, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "requirements" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_good_machine_is_accepted(check: ModuleType, tmp_path: Path) -> None:
    assert check.complaint((3, 11, 0), sys.executable, str(tmp_path)) == ""
    assert check.complaint((3, 14, 0), f"{sys.executable} -m x", str(tmp_path)) == ""


def test_an_old_python_is_refused(check: ModuleType, tmp_path: Path) -> None:
    text = check.complaint((3, 10, 4, "final", 0), sys.executable, str(tmp_path))
    assert "Python 3.11 or newer is needed" in text
    assert "is 3.10.4" in text
    assert "make PYTHON=" in text


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_missing_module_names_the_package(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text = check.complaint((3, 11, 0), sys.executable, str(tmp_path))
    assert f"its module {module} is missing" in text
    assert "apt install python3-venv" in text


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "no-such-compiler -m64"])
def test_a_missing_compiler_is_named(check: ModuleType, tmp_path: Path, compiler: str) -> None:
    text = check.complaint((3, 11, 0), compiler, str(tmp_path))
    assert f"{compiler!r} was not found" in text
    assert "apt install g++" in text


def test_a_python_inside_the_environment_is_refused(check: ModuleType) -> None:
    text = check.complaint((3, 11, 0), sys.executable, os.path.relpath(sys.prefix))
    assert "deactivate" in text


def pins(text: str) -> dict[str, str]:
    """Package -> version of a requirements file; ``ValueError`` for a line that pins nothing."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, equal, number = line.partition("==")
            if not equal or not number[:1].isdecimal() or "*" in number:
                raise ValueError(f"not pinned: {line}")
            found[canonicalize_name(name)] = number
    return found


def all_pins() -> dict[str, str]:
    """What all requirements files pin together."""
    return {name: number for path in FILES for name, number in pins(path.read_text()).items()}


def test_every_package_is_pinned_once() -> None:
    assert all_pins()["torch"] == "2.13.0"
    assert len(all_pins()) == sum(len(pins(path.read_text())) for path in FILES)


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.*", "-r other.txt"])
def test_a_loose_line_is_noticed(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned"):
        pins(f"torch==2.13.0\n{line}\n")


def test_the_pins_are_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    found = all_pins()
    for line in [*project["dependencies"], *extras]:
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        assert name in found, f"{name} is declared and not pinned"
        assert wanted.specifier.contains(found[name]), f"{line} refuses the pinned {found[name]}"


def test_the_environment_is_the_pinned_one() -> None:
    tools = {"pip", "wheel"}
    expect_none(
        f"{name} is {version(name)}, pinned is {number}: call make setup"
        for name, number in all_pins().items()
        if name not in tools and version(name).partition("+")[0] != number
    )


def test_the_gate_is_the_test_target() -> None:
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    assert "make test" in gate.read_text()
