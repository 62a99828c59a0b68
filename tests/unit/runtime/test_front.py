"""What a run answers when it is asked: faults on purpose go to whom they are meant for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ithaca.recovery.fault import CONTROLLER
from ithaca.runtime.control.roll import Attend, OrderKind
from ithaca.runtime.events import FaultInjected
from ithaca.runtime.faults import process
from ithaca.runtime.faults.injector import Injector
from ithaca.runtime.front import Front
from tests.helpers.fake_crew import Bench


class Asked:
    """A front, and what the controller's own injector told."""

    def __init__(self, folder: Path, **changes: bool) -> None:
        self.bench = Bench(folder, **changes)
        self.told: list[FaultInjected] = []
        self.injector = Injector(CONTROLLER, self.told.append)
        self.front = Front(self.bench.desk, self.injector)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    made = Asked(tmp_path, drills=True)
    yield made
    made.bench.journal.close()


def test_a_workers_fault_goes_to_the_worker_and_is_told_when_it_strikes(asked: Asked) -> None:
    post = asked.front.attend(Attend(1, "a", 0))
    asked.front.inject(1, "crash w1 at step 1")
    order = post.take(0.0)
    assert order is not None
    assert (order.kind, order.text) == (OrderKind.INJECT, "crash w1 at step 1")
    assert asked.bench.told(FaultInjected) == []


def test_the_controllers_fault_strikes_the_controller(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck: list[str] = []
    monkeypatch.setattr(process, "crash", lambda: struck.append("crash"))
    post = asked.front.attend(Attend(0, "a", 0))
    asked.front.inject(0, "crash controller at step 1")
    assert post.take(0.0) is None
    asked.injector.at(3, "before", "record")
    assert struck == ["crash"]
    assert [event.worker for event in asked.told] == [None]


@pytest.mark.parametrize(
    ("worker", "fault", "word"),
    [
        (9, "crash w9 at step 1", "no worker 9"),
        (1, "crash w1 at step 1", "not connected"),
        (1, "crsh w1 at step 1", "did you mean 'crash'"),
    ],
)
def test_what_cannot_be_done_is_refused(asked: Asked, worker: int, fault: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        asked.front.inject(worker, fault)


def test_a_job_that_allows_no_drills_is_left_alone(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    with pytest.raises(PermissionError, match="drills=true"):
        asked.front.inject(0, "crash controller at step 1")
    asked.bench.journal.close()
