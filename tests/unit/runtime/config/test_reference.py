"""The reference page and the example jobs are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.runtime.config.load import load
from ithaca.runtime.config.reference import page

ROOT = Path(__file__).parents[4]
# Searches are no jobs: tests/unit/tuners/loop loads them.
EXAMPLES = sorted(
    path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("tune_")
)


def test_the_page_is_current() -> None:
    committed = (ROOT / "docs" / "config.md").read_text()
    todo = "bring it up to date: python -m ithaca.runtime.config.reference > docs/config.md"
    assert committed == page(), todo


def test_every_option_is_explained() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    loaded = load(path)
    assert loaded.job.name.replace("-", "_") in (path.stem, "quickstart")
