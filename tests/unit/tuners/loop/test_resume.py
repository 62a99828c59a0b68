"""Everything is killed at once, and taken up again: what the disk holds is enough."""

from __future__ import annotations

import os
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ithaca.runtime.errors import UnwritableError
from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop import coordinator as module
from ithaca.tuners.loop import elapsed as elapsed_module
from ithaca.tuners.loop import files as files_module
from ithaca.tuners.loop.coordinator import Coordinator, Summary
from ithaca.tuners.loop.elapsed import Elapsed
from ithaca.tuners.loop.files import StateFiles
from ithaca.tuners.loop.load import LoadedTune, load_tune
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, read_lines
from ithaca.tuners.loop.state import Snapshot, view
from tests.helpers.fake_tune import FakeCrew, FakeDisk, value
from tests.helpers.full_disk import FullDisk
from tests.helpers.mutated import mutated

CONFIGS = Path(__file__).parents[4] / "configs"
TURN_S = 0.05
AWAY_S = 1000.0
"""Time between a kill and the next start: far longer than the budget."""


@pytest.fixture(scope="module")
def tune() -> LoadedTune:
    """A search of ten virtual seconds, with configurations at random."""
    return load_tune(CONFIGS / "tune_quick.yaml", ["budget=10s", "surrogate=random"])


def drive(
    tune: LoadedTune,
    folder: Path,
    kills: list[int],
    make: type[Coordinator] = Coordinator,
    elapsed: type[Elapsed] = Elapsed,
) -> Summary:
    """A search of which everything dies behind so many turns, each time; then to its end."""
    disk, now = FakeDisk(), 1000.0
    for turns in [*kills, 2000]:
        crew = FakeCrew(2, value, disk=disk, now=now)
        elapsed(folder, crew.clock).stand_still()
        one = make(tune, folder, crew, crew.clock, frozenset(crew.processes), disk)
        for _ in range(turns):
            summary = one.turn(TURN_S)
            if summary.over:
                break
        one.close()
        if summary.over:
            return summary
        now = crew.now + AWAY_S
    pytest.fail("the search does not end")


def fresh(folder: Path) -> Path:
    """An empty folder for one example."""
    for path in folder.iterdir():
        path.unlink()
    return folder


@given(st.lists(st.integers(1, 150), max_size=4))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_that_was_killed_as_a_whole_goes_on(
    tmp_path: Path, tune: LoadedTune, kills: list[int]
) -> None:
    folder = fresh(tmp_path)
    summary = drive(tune, folder, kills)
    assert summary.again == 0
    search, _ = read_journal(folder / JOURNAL)
    assert not search.running
    # The budget counts on: nothing of it is given twice, and the time away costs nothing.
    assert 9.0 <= summary.ended_s <= 10.3
    reached: dict[int, int] = {}
    for line in read_lines(folder / LOG):
        if isinstance(line, Begun):
            assert line.first >= reached.get(line.trial, 0) // 5 * 5
            curve = search.trials[line.trial].curve
            reached[line.trial] = max((f for f, _ in curve if f <= line.first), default=0)


def test_a_coordinator_that_does_not_look_at_the_disk_begins_anew(
    tmp_path: Path, tune: LoadedTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    old = "max(self._newest(asked.trial), self._on_disk().steps().get(asked.trial, 0))"
    mutant = mutated(monkeypatch, module, old, "self._newest(asked.trial)")
    assert drive(tune, tmp_path, [60, 60], mutant.Coordinator).again > 0


def test_time_away_that_were_counted_is_noticed(
    tmp_path: Path, tune: LoadedTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another control."""
    old = "self._path.stat().st_mtime - self._origin_s"
    mutant = mutated(monkeypatch, elapsed_module, old, "self._clock() - self._origin_s")
    summary = drive(tune, tmp_path, [60], elapsed=mutant.Elapsed)
    assert summary.now_s > 10.3


def snapshot(trial: int, step: int) -> Snapshot:
    """Tensors of several types and shapes."""
    generator = torch.Generator().manual_seed(step)
    states = {
        f"layer.{i}/a": {
            "param.w": torch.randn(3, i + 1, generator=generator),
            "step": torch.tensor(step, dtype=torch.int64),
        }
        for i in range(3)
    }
    return view(trial, step, states)


def test_states_come_back_from_the_disk_with_their_bits(tmp_path: Path) -> None:
    files = StateFiles(tmp_path / "states")
    assert files.steps() == {}
    files.write(snapshot(3, 7))
    files.write(snapshot(3, 9))
    files.write(snapshot(12, 1))
    assert files.steps() == {3: 9, 12: 1}
    assert files.read(3, 7) is None
    found, wanted = files.read(3, 9), snapshot(3, 9)
    assert found is not None
    assert found.hash() == wanted.hash()
    assert list(found.arrays) == list(wanted.arrays)
    for layer, parts in wanted.arrays.items():
        for key, part in parts.items():
            np.testing.assert_array_equal(found.arrays[layer][key], part)
            assert found.arrays[layer][key].flags.writeable
    files.drop([3])
    assert files.steps() == {12: 1}
    files.clear()
    assert not (tmp_path / "states").exists()


def test_a_state_that_is_not_whole_is_none(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.write(snapshot(1, 2))
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    for length in (0, 5, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert files.read(1, 2) is None


def test_mixed_up_layers_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the hash above: entries that are put into the wrong layer change it."""
    mutant = mutated(monkeypatch, files_module, "names[int(index)]", "names[-1 - int(index)]")
    files = mutant.StateFiles(tmp_path)
    files.write(snapshot(3, 9))
    assert files.read(3, 9).hash() != snapshot(3, 9).hash()


@pytest.mark.parametrize("room", [700, 2_000, 5_000, 9_000])
def test_a_search_on_a_full_disk_stops_and_goes_on(
    tmp_path: Path, tune: LoadedTune, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whichever line it is that does not fit, of the journal or of the log."""
    disk = FakeDisk()
    crew = FakeCrew(2, value, disk=disk, now=1000.0)
    one = Coordinator(tune, tmp_path, crew, crew.clock, frozenset(crew.processes), disk)
    with monkeypatch.context() as full:
        full.setattr(os, "write", FullDisk(room))
        with pytest.raises(UnwritableError, match="No space left"):
            list(map(one.turn, repeat(TURN_S, 2000)))
    one.close()
    read_journal(tmp_path / JOURNAL)
    later = crew.now + AWAY_S
    crew = FakeCrew(2, value, disk=disk, now=later)
    Elapsed(tmp_path, crew.clock).stand_still()
    two = Coordinator(tune, tmp_path, crew, crew.clock, frozenset(crew.processes), disk)
    ended = next(summary for _ in range(2000) if (summary := two.turn(TURN_S)).over)
    two.close()
    assert ended.again == 0
    search, _ = read_journal(tmp_path / JOURNAL)
    assert not search.running
    assert list(read_lines(tmp_path / LOG))
