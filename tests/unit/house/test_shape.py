"""Files stay small, lines short, and folders free of catch-alls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from tests.unit.house.source import GENERATED, ROOT, expect_none, files, planted, product

MOST_LINES = 800
MEDIAN_LINES = 200
WIDEST = 100
CATCH_ALL = frozenset({"utils.py", "util.py", "helpers.py", "common.py", "misc.py"})
CODE = (".py", ".pyi", ".cpp", ".h", ".proto", ".yaml")


def too_long(texts: Iterable[tuple[Path, str]]) -> list[str]:
    """Files above the limit, and lines above theirs."""
    problems = []
    for path, text in texts:
        lines = text.splitlines()
        if len(lines) > MOST_LINES:
            problems.append(f"{path}: {len(lines)} lines; at most {MOST_LINES}")
        problems += [
            f"{path}:{number}: {len(line)} characters; at most {WIDEST}"
            for number, line in enumerate(lines, 1)
            if len(line) > WIDEST
        ]
    return problems


def test_files_and_lines_are_short() -> None:
    code = [path for path in files(*CODE) if path.name not in GENERATED]
    assert len(code) > 50
    expect_none(too_long((path, (ROOT / path).read_text()) for path in code))


def test_half_of_the_files_are_very_short() -> None:
    assert median(len(source.text.splitlines()) for source in product()) <= MEDIAN_LINES


def test_no_file_is_a_catch_all() -> None:
    assert [source.path for source in product() if source.path.name in CATCH_ALL] == []


def test_a_long_file_and_a_wide_line_are_noticed() -> None:
    source = planted("x = 1\n" * 801 + "#" * 101)
    assert len(too_long([(source.path, source.text)])) == 2
    assert too_long([(source.path, "x = 1\n" * 799 + "#" * 100)]) == []
