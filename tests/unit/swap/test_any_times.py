"""Whatever was measured: the budget is kept, and no bit changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.swap.plan import Action
from ithaca.swap.session import MemorySession
from tests.unit.swap.even_times import USUAL_SECONDS, any_times, set_times
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


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_plan_computes_again_only_what_the_session_does(
    name: str, recompute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even from a slow disk; the control: where it may, it does."""
    reference = without(name)
    set_times(monkeypatch, lambda: USUAL_SECONDS, lambda: 1e6)
    seen: list[MemorySession] = []
    taken = train(
        CASES[name],
        budget=reference.budget(0.5),
        folder=tmp_path,
        prepare=seen.append,
        recompute=recompute,
    )
    assert taken.same_as(reference)
    plans = seen[0].report().plans.values()
    actions = {decision.action for plan in plans for decision in plan.decisions}
    assert (Action.RECOMPUTE in actions) == recompute


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
