"""A training that goes on under changing settings, and who is lost on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.seat import Seat
from ithaca.tuners.loop.knobs import LiveJob


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
