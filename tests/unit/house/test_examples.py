"""What the documentation shows in Python can be read, and what it imports is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.house.source import expect_none

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def problems(text: str, where: str) -> Iterator[str]:
    """What of the examples in ``text`` would fail before anything is done."""
    for block in BLOCK.findall(text):
        try:
            tree = ast.parse(block)
        except SyntaxError as error:
            yield f"{where}: {error}"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ithaca"):
                module = import_module(str(node.module))
                # What is imported at its first use is named there, and not imported for this.
                there = {*dir(module), *getattr(module, "__all__", ())}
                for name in node.names:
                    if name.name not in there:
                        yield f"{where}: {node.module} has no {name.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_can_be_begun(page: Path) -> None:
    expect_none(problems(page.read_text(), page.name))


def test_there_are_examples_and_the_oracle_reads_them() -> None:
    blocks = [block for page in PAGES for block in BLOCK.findall(page.read_text())]
    assert len(blocks) > 3
    planted = "```python\nfrom ithaca.tuners import Tuners\n```\n```python\nx = = 1\n```\n"
    told = list(problems(planted, "page"))
    assert told[0] == "page: ithaca.tuners has no Tuners"
    assert told[1].startswith("page: invalid syntax")
    assert len(told) == 2
