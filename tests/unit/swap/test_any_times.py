"""Whatever was measured: the budget is kept, and no bit changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.swap.session import MemorySession
from tests.unit.swap.even_times import any_times
from tests.unit.swap.tiny import CASES, Outcome, train

_WITHOUT: dict[str, Outcome] = {}


def without(name: str) -> Outcome:
    """The same training without a session."""
    if name not in _WITHOUT:
        _WITHOUT[name] = train(CASES[name])
    return _WITHOUT[name]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share", [0.6, 0.3])
def test_any_times_keep_the_budget_and_the_bits(
    name: str, share: float, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = without(name)
    any_times(monkeypatch, seed)
    taken = train(CASES[name], budget=reference.budget(share), folder=tmp_path)
    assert taken.same_as(reference)


def test_times_change_what_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: these times do reach the plans."""
    reference = without("transformer")
    texts = set()
    for seed in range(3):
        any_times(monkeypatch, seed)
        seen: list[MemorySession] = []
        budget = reference.budget(0.4)
        train(CASES["transformer"], budget=budget, folder=tmp_path, prepare=seen.append)
        texts.add(str(seen[0].report().plans))
    assert len(texts) == 3
