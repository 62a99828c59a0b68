"""What a change of the sequence costs: steps until it is planned for, failed ones, the peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ithaca.swap.bench.arms import Limits
from ithaca.swap.bench.cells import budget_of
from ithaca.swap.bench.models import MODELS, WARM_UP
from ithaca.swap.bench.rival import PLAIN, Rival, Setting, Variation, with_budget

# A step is planned for when so much of what it saves is found in the plan.
PLANNED = 0.95
STEPS = 5


@dataclass(frozen=True)
class Change:
    """What happened in the steps behind a change.

    Args:
        name: of the change.
        steps_to_plan: how many steps were not planned for; ``STEPS`` if none was.
        failed: steps that ended in an error.
        overshoot_bytes: of the peak over the budget; 0 is in it.
        again: the same when the change comes a second time.
    """

    name: str
    steps_to_plan: int
    failed: int
    overshoot_bytes: int
    again: int


def variations(model: str) -> dict[str, Variation]:
    """The changes, by name."""
    shape = MODELS[model].shape
    found = {
        "evaluation before a step": Variation(evaluate=True),
        "accumulation 1 to 4": Variation(accumulate=4),
        "optimizer step skipped": Variation(skip=True),
        "layer dropped": Variation(dropped=MODELS[model].layers // 2),
    }
    if len(shape) == 3:
        found["half the length"] = Variation(length=shape[1] // 2)
    return found


def changes(
    model: str, percent: int, folder: Path, device: str = "cpu", threads: int = 2
) -> Iterator[Change]:
    """Every change in a training of its own, at a budget of ``percent``."""
    setting = Setting(model, "nothing", Limits(0, folder), device, threads)
    with Rival(setting) as free:
        budget = budget_of([free.step() for _ in range(3)][-1], percent)
    setting = with_budget(Setting(model, "ours", setting.limits, device, threads), budget)
    for name, variation in variations(model).items():
        with Rival(setting) as rival:
            for _ in range(WARM_UP):
                rival.step()
            first = _after(rival, variation, budget)
            for _ in range(2):
                rival.step(PLAIN)
            again = _after(rival, variation, budget)
        yield Change(name, first[0], first[1] + again[1], max(first[2], again[2]), again[0])


def _after(rival: Rival, variation: Variation, budget: int) -> tuple[int, int, int]:
    unplanned, failed, over = STEPS, 0, 0
    for number in range(STEPS):
        taken = rival.step(variation)
        failed += bool(taken.refused)
        over = max(over, taken.peak_bytes - budget)
        looked = taken.hits + taken.misses
        if unplanned == STEPS and looked and taken.hits >= PLANNED * looked:
            unplanned = number
    return unplanned, failed, over
