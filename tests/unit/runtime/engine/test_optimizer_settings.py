"""The learning rate of a step, and clipping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ithaca.runtime.engine.optimizer_settings import OptimizerSettings

SETTINGS = OptimizerSettings(1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0, "cosine", 4, 0.1, 20)


def rates(schedule: Any, **changes: Any) -> list[float]:  # noqa: ANN401 - settings
    """The rates of all steps and two behind the end."""
    settings = replace(SETTINGS, schedule=schedule, **changes)
    return [settings.rate(step) for step in range(settings.steps + 2)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates(schedule: str) -> None:
    found = rates(schedule)
    assert found[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert found[4] == 0.01
    assert all(one >= other for one, other in pairwise(found[4:]))
    last = 0.01 if schedule == "constant" else 0.001
    assert found[19:] == pytest.approx([last] * 3)


def test_the_middle_of_the_fall() -> None:
    linear, cosine = rates("linear", steps=25), rates("cosine", steps=25)
    assert linear[14] == cosine[14] == pytest.approx(0.0055)
    assert cosine[9] > linear[9]
    assert cosine[19] < linear[19]


def test_schedules_of_few_steps() -> None:
    assert rates("linear", warmup=0, steps=1)[0] == 0.01
    assert rates("cosine", warmup=0, steps=2)[:2] == pytest.approx([0.01, 0.001])
    assert rates("cosine", warmup=30)[19] == pytest.approx(0.01 * 20 / 30)
    assert max(rates("linear", warmup=19)) == pytest.approx(0.01)


def test_the_divisor_clips() -> None:
    assert SETTINGS.divisor(96, 0.5) == 96
    assert SETTINGS.divisor(96, 1.0) == 96
    assert SETTINGS.divisor(96, 4.0) == 384
    assert replace(SETTINGS, clip=None).divisor(96, 4.0) == 96
    assert replace(SETTINGS, clip=0.25).divisor(10, 0.5) == 20
