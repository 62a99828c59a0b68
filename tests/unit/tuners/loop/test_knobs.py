"""A training that goes on under changing settings, and who is lost on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.events import RunEnded
from ithaca.runtime.seat import Seat
from ithaca.tuners.loop.knobs import LiveJob, Stretch, UnsavedError, came_to
from ithaca.tuners.space import Config


class Workers:
    """Two of them, of which the second does not answer; what is done to them, in order."""

    def __init__(self) -> None:
        self.facts = {0: "facts 0", 1: "facts 1"}
        self.join_s = 1.0
        self.done: list[str] = []

    def ask(self, method: str, arguments: dict[int, tuple[()]], bound_s: float) -> object:
        """Their answers."""
        del bound_s
        self.done.append(f"{method} {sorted(arguments)}")
        return {0: None, 1: Silence("its process hangs")}

    def kill(self, worker: int) -> None:
        """One of them."""
        self.done.append(f"kill {worker}")

    def add(self, worker: int, actor: str, facts: str) -> None:
        """Another one."""
        self.facts[worker] = facts
        self.done.append(f"{actor} is {worker}")

    def hire(self, size: int) -> object:
        """As an agency does."""
        self.done.append(f"hire {size}")
        return SimpleNamespace(actors={7: "actor 7"}, facts={7: "facts 7"})


def test_who_is_lost_is_ended_before_another_one_needs_the_slot(tmp_path: Path) -> None:
    workers = Workers()
    live = LiveJob(tmp_path / "job.yaml", (), tmp_path)
    live.use(
        cast("Cluster", None), cast("Agency", workers), cast("Crew", workers), cast("Seat", None)
    )
    live._renew(cast("Crew", workers))
    assert workers.done == ["release [0, 1]", "kill 1", "hire 1", "actor 7 is 1"]
    assert workers.facts == {0: "facts 0", 1: "facts 7"}


SETTING: Config = {"layout": "2x1"}


def stopped(outcome: str, step: int) -> RunEnded:
    """A run that ended so."""
    return RunEnded(time_s=0.0, outcome=outcome, step=step, reason="the disk is full")


def test_a_setting_that_works_has_its_seconds() -> None:
    assert came_to(SETTING, 8, 16, stopped("drained", 18), 0.5) == Stretch(SETTING, 8, 18, 0.5)


def test_a_setting_that_fails_on_the_way_has_its_reason() -> None:
    """What it did of its steps is not kept: the next one goes on where it began."""
    failed = Stretch(SETTING, 8, 8, None, "the disk is full")
    assert came_to(SETTING, 8, 16, stopped("failed", 15), 0.5) == failed


@pytest.mark.parametrize("step", [16, 18])
def test_no_setting_is_blamed_for_a_state_that_is_not_saved(step: int) -> None:
    with pytest.raises(UnsavedError, match="the disk is full") as caught:
        came_to(SETTING, 8, 16, stopped("failed", step), 0.5)
    assert "behind step 8" in str(caught.value)
    assert caught.value.exit_code == 1
