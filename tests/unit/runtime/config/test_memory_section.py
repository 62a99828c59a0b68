"""The memory section: sizes and percentages, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.runtime.cli.main import main
from ithaca.runtime.config.memory import MemoryConfig, parse_share
from tests.helpers.real_job import write_job


def test_a_percentage_is_of_the_activations() -> None:
    config = MemoryConfig(budget="40%")
    assert config.bytes_for(1000, 500) == 1200
    assert config.limit_bytes is None


def test_a_size_is_itself() -> None:
    config = MemoryConfig(budget="2KiB")
    assert config.bytes_for(10**9, 10**9) == config.limit_bytes == 2048


def test_without_a_budget_there_is_none() -> None:
    assert MemoryConfig().bytes_for(1, 1) is None
    assert MemoryConfig().limit_bytes is None


@pytest.mark.parametrize(("text", "share"), [("40%", 0.4), ("12.5 %", 0.125), ("100%", 1.0)])
def test_percentages(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["0%", "101%", "-3%", "%", "40", "forty%", "1e1%"])
def test_what_is_no_percentage(text: str) -> None:
    assert parse_share(text) is None


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("memory.budget=0%", "a size like 8GiB, or a percentage"),
        ("memory.budget=much", "a size like 8GiB, or a percentage"),
        ("memory.folder=x", "is for a memory.budget"),
        ("memory.budget=40% memory.folder=x", "is needed with memory.folder"),
        ("memory.budget=40% memory.limit=1GiB", "is for a memory.folder"),
        ("memory.budget=40% cluster.device=cuda", "counted in the memory of the CPU"),
        ("memory.budget=40% memory.recompute=false", "needs a memory.folder"),
        ("memory.recompute=false", "needs a memory.folder"),
        ("memory.bugdet=40%", "did you mean 'budget'"),
    ],
)
def test_what_cannot_be_is_told(
    words: str, about: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_job(tmp_path)
    assert main(["check", str(path), *words.split()]) == 2
    assert about in capsys.readouterr().err
