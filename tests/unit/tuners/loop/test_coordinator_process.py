"""What a driver hears of a coordinator: whoever is counted as lost is named in the same answer."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from ithaca.runtime.errors import UnwritableError, writing
from ithaca.tuners.loop import coordinator_process
from ithaca.tuners.loop.coordinator_process import CoordinatorProcess, Pulse
from ithaca.tuners.loop.load import LoadedTune
from tests.helpers.mutated import mutated

HANDLES = {0: "handle 0", 1: "handle 1"}


class Heard:
    """A crew and a coordinator that loses process 1; a driver asks whenever the crew is looked at.

    Between the end of the turn and that look lies the moment in which both must agree.
    """

    def __init__(self) -> None:
        self.process: CoordinatorProcess | None = None
        self.pulses: list[Pulse] = []
        self.seen: dict[int, SimpleNamespace] = {}
        self.lost = 0

    @property
    def handles(self) -> dict[int, str]:
        """Those that are not gone."""
        assert self.process is not None
        self.pulses.append(self.process.pulse())
        return {n: handle for n, handle in HANDLES.items() if not (n and self.lost)}

    def join(self, handles: dict[int, str]) -> None:
        """Nobody else."""

    def turn(self, bound_s: float) -> SimpleNamespace:
        """Lose a process; the second turn is the last."""
        self.lost += 1
        return SimpleNamespace(lost=1, over=self.lost == 2)

    def close(self) -> None:
        """Nothing is open."""


def names_who_is_lost(module: ModuleType, folder: Path, patch: pytest.MonkeyPatch) -> bool:
    """Whether every answer that counts a loss names it."""
    heard = Heard()
    patch.setattr(module, "ActorCrew", lambda: heard)
    patch.setattr(module, "Coordinator", lambda *_: heard)
    heard.process = process = module.CoordinatorProcess(None, folder)
    process._work(frozenset(HANDLES))
    told = [*heard.pulses, process.pulse()]
    assert not any(pulse.broken for pulse in told)
    assert told[-1].gone == (1,)
    counts = [(pulse.summary.lost if pulse.summary else 0, len(pulse.gone)) for pulse in told]
    return all(lost <= named for lost, named in counts)


def test_a_loss_that_is_counted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next coordinator is introduced to a process that is gone."""
    assert names_who_is_lost(coordinator_process, tmp_path, monkeypatch)


def test_the_oracle_sees_one_that_counts_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = mutated(
        monkeypatch,
        coordinator_process,
        "summary = coordinator.turn(_LOOK_S)",
        "summary = self._summary = coordinator.turn(_LOOK_S)",
    )
    assert not names_who_is_lost(hasty, tmp_path, monkeypatch)


def test_a_disk_that_is_full_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver ends the search in order then; what is told as broken is a mistake of ours."""

    def turn(bound_s: float) -> None:
        with writing(tmp_path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        coordinator_process, "Coordinator", lambda *_: SimpleNamespace(turn=turn, close=bool)
    )
    process = CoordinatorProcess(cast("LoadedTune", None), tmp_path)
    process._work(frozenset())
    refused = pickle.loads(pickle.dumps(process.pulse())).refused
    assert isinstance(refused, UnwritableError)
    assert "No space left" in str(refused)
    assert not process.pulse().broken
