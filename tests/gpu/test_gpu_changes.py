"""Sequences that change, on a GPU: the same bits, no failed step, a plan within three."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ithaca.swap.bench.changes import STEPS, changes
from ithaca.swap.bench.models import MODELS, Stack
from tests.gpu.trained import DEVICE, Training

SHARE = 0.4


def dropped(model: Stack, step: int) -> bool:
    """A block is left out in every third step."""
    model.dropped = 5 if step % 3 == 2 else -1
    return True


def skipped(_model: Stack, step: int) -> bool:
    """The optimizer does not step in every third."""
    return step % 3 != 2


def evaluated(model: Stack, step: int) -> bool:
    """A forward without gradients comes before every other step."""
    if step % 2:
        with torch.no_grad():
            model.eval()(MODELS["small"].batch(0, DEVICE))
        model.train()
    return True


TRAININGS = {
    "a block is dropped": Training(steps=9, vary=dropped),
    "the optimizer skips": Training(steps=9, vary=skipped),
    "an evaluation between": Training(steps=6, vary=evaluated),
    "lengths": Training(steps=8, length=lambda step: (512, 256, 384, 512)[step % 4]),
    "random routing": Training("small MoE", steps=8),
}


@pytest.mark.parametrize("name", list(TRAININGS))
def test_the_same_bits(name: str) -> None:
    training = TRAININGS[name]
    reference = training.run()
    taken, budget = training.within_or_what_is_needed(reference.budget(SHARE))
    assert taken.same_bits(reference)
    assert taken.peak_bytes <= budget


def test_a_plan_within_three_steps_and_at_once_the_second_time(tmp_path: Path) -> None:
    for change in changes("small", 40, tmp_path, "cuda"):
        assert change.failed == 0, change
        assert change.overshoot_bytes <= 0, change
        assert change.steps_to_plan <= 3 < STEPS, change
        assert change.again == 0, change
