"""Changes of plan that no failure forces: everybody stands behind a step, or nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ithaca.runtime.changes import Changes
from ithaca.runtime.crew import Silence
from ithaca.runtime.journal import FILE, parse
from ithaca.runtime.notes import Paused
from tests.helpers.fake_crew import Bench

LAST = 20
"""Steps of the bench's job."""


class Asked:
    """Changes of a run whose workers stand still when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.told: dict[int, Callable[[int | Silence], None]] = {}
        bench = self.bench
        self.changes = Changes(bench.desk, bench.recovery, bench.journal, self._pause, bench.clock)

    def _pause(self, worker: int, take: Callable[[int | Silence], None]) -> None:
        self.told[worker] = take

    def stand(self, worker: int, step: int) -> None:
        """Let a worker that was asked for a pause stand behind ``step``."""
        self.told[worker](step)
        note = self.bench.desk.mailbox.take(0.0)
        assert isinstance(note, Paused)
        self.changes.paused(note)
        self.changes.go_on()

    def leave(self, worker: int) -> None:
        """Somebody asks for ``worker`` to leave."""
        self.bench.members.leaving.add(worker)
        self.changes.consider()
        self.changes.go_on()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    made = Asked(tmp_path)
    yield made
    made.bench.journal.close()


def test_a_change_begins_when_the_last_one_stands(asked: Asked) -> None:
    asked.leave(3)
    assert set(asked.told) == {0, 1, 2, 3}
    for worker in (0, 1, 2):
        asked.stand(worker, 4)
        assert asked.changes.under_way
        assert not asked.bench.crew.deployed
    asked.stand(3, 4)
    assert not asked.changes.under_way
    assert 3 not in asked.bench.members.known
    assert asked.bench.members.settled == asked.bench.members.generation


def test_behind_the_last_step_nothing_is_changed(asked: Asked) -> None:
    asked.leave(3)
    for worker in range(4):
        asked.stand(worker, LAST)
    assert not asked.changes.under_way
    assert asked.bench.recovery.goal is None
    assert not asked.bench.crew.deployed
    assert 3 in asked.bench.members.known


def test_the_oracle_sees_a_change_behind_the_last_step(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Changes, "_done", lambda self, step: False)
    with pytest.raises(AssertionError):
        test_behind_the_last_step_nothing_is_changed(asked)


def test_a_later_controller_would_know_that_somebody_waits(asked: Asked) -> None:
    asked.leave(2)
    lines = (asked.bench.mission.folder / FILE).read_text().splitlines()
    assert [parse(line).kind for line in lines] == ["opened", "fencing"]


def test_who_could_not_pause_is_waited_for_no_longer_after_a_failure(asked: Asked) -> None:
    asked.leave(3)
    asked.told[0](Silence("its process died", dead=True))
    note = asked.bench.desk.mailbox.take(0.0)
    assert isinstance(note, Paused)
    asked.changes.paused(note)
    asked.changes.forget()
    assert not asked.changes.under_way
