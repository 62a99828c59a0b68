"""Files of lines: cut short, on a full disk, under two writers."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from ithaca.runtime import lines
from ithaca.runtime.lines import LineFile, open_lines
from tests.helpers.full_disk import FullDisk
from tests.helpers.mutated import mutated

FIRST, SECOND, THIRD = b"first\n", b"second\n", b"third\n"


def after_an_outage(
    module: ModuleType, path: Path, patch: pytest.MonkeyPatch, room: int
) -> list[bytes]:
    """The lines of a file whose second line met with a full disk, and whose third did not."""
    file = module.LineFile(module.open_lines(path))
    file.append(FIRST)
    with patch.context() as full:
        full.setattr(os, "write", FullDisk(room))
        with pytest.raises(OSError, match="No space left"):
            file.append(SECOND)
    file.append(THIRD)
    file.close()
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("room", range(len(SECOND)))
def test_a_line_that_did_not_fit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    assert after_an_outage(lines, tmp_path / "lines", monkeypatch, room) == [FIRST, THIRD]


def test_the_oracle_sees_a_line_behind_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = mutated(monkeypatch, lines, "os.ftruncate(file, self._end)", "pass")
    found = after_an_outage(mutant, tmp_path / "lines", monkeypatch, 3)
    assert found == [FIRST, b"secthird\n"]


@pytest.mark.parametrize("cut", range(len(SECOND)))
def test_what_a_crash_left_of_a_line_goes_when_the_file_is_opened(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "lines"
    path.write_bytes(FIRST + SECOND[:cut])
    file = LineFile(open_lines(path))
    file.append(THIRD)
    file.sync()
    file.close()
    file.close()
    assert not file.is_open
    assert path.read_bytes() == FIRST + THIRD


def test_a_second_writer_is_noticed_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    one, two = LineFile(open_lines(path)), LineFile(open_lines(path))
    assert one.is_ours
    two.append(FIRST)
    assert two.is_ours
    assert not one.is_ours
    one.append(SECOND)
    assert path.read_bytes() == FIRST + SECOND
    one.close()
    two.close()
