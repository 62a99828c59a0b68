"""The rooms are reached as ``ithaca.<room>`` through relative links, and in no other way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.house.source import PACKAGE, ROOT, expect_none, rooms


def broken_links(root: Path, package: Path, names: Sequence[str]) -> list[str]:
    """What is wrong with the links from ``package`` to the rooms ``names`` under ``root``."""
    problems = []
    for name in names:
        link = package / name
        if not link.is_symlink():
            problems.append(f"{link} is no symbolic link (git config core.symlinks true?)")
        elif link.readlink() != Path("..", "..", name):
            problems.append(f"{link} points to {link.readlink()}, not to ../../{name}")
        elif not link.joinpath("__init__.py").is_file():
            problems.append(f"{link} leads to no package")
    problems += [
        f"{path} is a folder: its room belongs to the root"
        for path in package.iterdir()
        if path.is_dir() and not path.is_symlink() and path.name != "__pycache__"
    ]
    problems += [
        f"{path} leads to no room"
        for path in package.iterdir()
        if path.is_symlink() and path.name not in names
    ]
    if (root / "ithaca").exists():
        problems.append("a folder called ithaca at the root hides the package")
    return problems


def test_every_room_has_its_link() -> None:
    assert {"planner", "runtime", "workloads"} <= set(rooms())
    expect_none(broken_links(ROOT, PACKAGE, rooms()))


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A house with one room in good order."""
    (tmp_path / "swap").mkdir()
    (tmp_path / "swap" / "__init__.py").touch()
    package = tmp_path / "src" / "ithaca"
    package.mkdir(parents=True)
    (package / "swap").symlink_to("../../swap")
    assert broken_links(tmp_path, package, ["swap"]) == []
    return tmp_path


@pytest.mark.parametrize("case", ["absent", "copy", "absolute", "text", "stray", "shadow"])
def test_a_broken_house_is_noticed(small_house: Path, case: str) -> None:
    package = small_house / "src" / "ithaca"
    link = package / "swap"
    if case in ("absent", "copy", "absolute", "text"):
        link.unlink()
    if case == "copy":
        link.mkdir()
    elif case == "absolute":
        link.symlink_to(small_house / "swap")
    elif case == "text":
        link.write_text("../../swap")
    elif case == "stray":
        (package / "gone").symlink_to("../../gone")
    elif case == "shadow":
        (small_house / "ithaca").mkdir()
    assert len(broken_links(small_house, package, ["swap"])) >= 1
