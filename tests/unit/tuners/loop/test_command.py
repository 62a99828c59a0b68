"""What a search of knobs says of each stretch."""

from __future__ import annotations

from ithaca.tuners.loop.command import stretch_line
from ithaca.tuners.loop.knobs import Stretch
from ithaca.tuners.space import Config

SETTING: Config = {"layout": "2x1"}


def test_steps_under_a_setting_are_told_with_what_one_took() -> None:
    assert stretch_line(Stretch(SETTING, 8, 16, 0.25)) == "steps 9 to 16: layout=2x1: 250 ms a step"


def test_a_failure_is_told_with_its_reason_in_one_line() -> None:
    reason = "worker 0 failed in step 8: BudgetError: too small\n" + 100 * "more "
    line = stretch_line(Stretch(SETTING, 8, 8, None, reason))
    begin = (
        "behind step 8: layout=2x1: failed: worker 0 failed in step 8: BudgetError: too small more"
    )
    assert line.startswith(begin)
    assert line.endswith("more ...")
    assert "\n" not in line
    assert len(line) < 250
