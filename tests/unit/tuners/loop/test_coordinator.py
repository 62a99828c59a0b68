"""The coordinator on a virtual clock: losses of processes and of itself, at any moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop import coordinator as module
from ithaca.tuners.loop.coordinator import Coordinator, Summary
from ithaca.tuners.loop.load import LoadedTune, load_tune
from ithaca.tuners.loop.record import LOG, Begun, Gone, next_process, read_lines
from ithaca.tuners.trial import State
from tests.helpers.fake_tune import FakeCrew, value
from tests.helpers.mutated import mutated

CONFIGS = Path(__file__).parents[4] / "configs"
TURN_S = 0.05


@pytest.fixture(scope="module")
def tune() -> LoadedTune:
    """A search of fifteen virtual seconds, with configurations at random."""
    return load_tune(CONFIGS / "tune_quick.yaml", ["budget=15s", "surrogate=random"])


def drive(
    tune: LoadedTune,
    folder: Path,
    crew: FakeCrew,
    strike: dict[int, str],
    make: type[Coordinator] = Coordinator,
) -> Summary:
    """A whole search; ``strike`` says in which turns who is lost."""
    expected = frozenset(crew.processes)
    one = make(tune, folder, crew, crew.clock, expected, crew.disk)
    for turn in range(800):
        what = strike.get(turn, "")
        if what == "coordinator":
            one.close()
            crew.look()
            one = make(tune, folder, crew, crew.clock, frozenset(crew.processes), crew.disk)
        elif what:
            living = sorted(crew.processes)
            crew.lose(living[int(what) % len(living)])
        summary = one.turn(TURN_S)
        if summary.over:
            one.close()
            return summary
    pytest.fail("the search does not end")


def fresh(folder: Path) -> Path:
    """An empty folder for one example."""
    for path in folder.iterdir():
        path.unlink()
    return folder


strikes = st.dictionaries(
    st.integers(0, 300), st.sampled_from(["coordinator", "0", "1", "2"]), max_size=12
)


def spread(strike: dict[int, str]) -> dict[int, str]:
    """Losses of processes at least a second apart: a copy takes that long to be made good."""
    found: dict[int, str] = {}
    last = -100
    for turn in sorted(strike):
        if strike[turn] == "coordinator":
            found[turn] = strike[turn]
        elif turn - last >= 20:
            found[turn], last = strike[turn], turn
    return found


@given(strikes)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_but_the_steps_since_the_last_copy(
    tmp_path: Path, tune: LoadedTune, strike: dict[int, str]
) -> None:
    folder = fresh(tmp_path)
    summary = drive(tune, folder, FakeCrew(3, value), spread(strike))
    assert summary.again == 0
    assert summary.now_s <= 15.3
    search, _ = read_journal(folder / "journal.jsonl")
    assert not search.running
    assert search.best is not None
    assert summary.best == search.best.value
    rungs = {10, 30, 90}
    assert all(fidelity in rungs for t in search.trials.values() for fidelity, _ in t.curve)
    begun = [line for line in read_lines(folder / LOG) if isinstance(line, Begun)]
    for line in begun:
        # Behind a rung a trial never begins below it.
        assert line.first >= max(
            (f for f, _ in search.trials[line.trial].curve if f <= line.first), default=0
        )
    assert not any(line.again for line in begun)


def test_an_undisturbed_search_uses_its_budget(tmp_path: Path, tune: LoadedTune) -> None:
    crew = FakeCrew(2, value)
    summary = drive(tune, tmp_path, crew, {})
    search, _ = read_journal(tmp_path / "journal.jsonl")
    spent = sum(trial.cost_s for trial in search.trials.values())
    assert spent == pytest.approx(2 * 15.0, rel=0.05)
    assert summary.ended_s == pytest.approx(15.0, abs=0.3)
    assert any(trial.fidelity == 90 for trial in search.trials.values())
    assert {trial.state for trial in search.trials.values()} <= {
        State.PAUSED,
        State.DONE,
        State.FAILED,
    }


def test_a_run_that_does_not_end_is_killed(tmp_path: Path, tune: LoadedTune) -> None:
    crew = FakeCrew(2, value, step_s=1e6)
    summary = drive(tune, tmp_path, crew, {})
    assert sorted(crew.killed) == [0, 1]
    assert summary.ended_s <= 15.3
    assert summary.best is None


def test_a_search_ends_with_its_budget_though_nobody_is_left(
    tmp_path: Path, tune: LoadedTune
) -> None:
    crew = FakeCrew(2, value, step_s=1e6)
    one = Coordinator(tune, tmp_path, crew, crew.clock, frozenset(crew.processes), crew.disk)
    while crew.processes:
        summary = one.turn(TURN_S)
        if crew.killed:
            crew.processes.clear()  # their successors take their time
            crew.look()
    summary = one.turn(TURN_S)
    one.close()
    assert summary.over
    assert summary.now_s < 15.5


def test_a_loss_is_counted_once_though_its_coordinator_was_lost_before_it_was_heard(
    tmp_path: Path, tune: LoadedTune
) -> None:
    crew = FakeCrew(3, value)
    everybody = frozenset(crew.processes)
    one = Coordinator(tune, tmp_path, crew, crew.clock, everybody, crew.disk)
    one.turn(TURN_S)
    crew.lose(1)
    assert one.turn(TURN_S).lost == 1
    one.close()
    # The driver has not heard of it: the next one is told of a process that does not answer.
    two = Coordinator(tune, tmp_path, crew, crew.clock, everybody, crew.disk)
    crew.gone.append(1)
    assert two.turn(TURN_S).lost == 1
    crew.lose(2)
    assert two.turn(TURN_S).lost == 2
    two.close()
    gone = [line.process for line in read_lines(tmp_path / LOG) if isinstance(line, Gone)]
    assert gone == [1, 2]
    assert next_process(tmp_path / LOG) > 2


def holders_after_a_loss(tune: LoadedTune, folder: Path, make: type[Coordinator]) -> int:
    """How many processes hold a paused trial soon after one of its two holders was lost."""
    crew = FakeCrew(3, value)
    one = make(tune, folder, crew, crew.clock, frozenset(crew.processes))
    while not any(t.state is State.PAUSED for t in one.search.trials.values()):
        one.turn(TURN_S)
    trial = next(t.number for t in one.search.trials.values() if t.state is State.PAUSED)
    holders = [n for n, p in crew.processes.items() if trial in p.kept]
    assert len(holders) == 2
    crew.lose(holders[1])
    for _ in range(3):
        one.turn(TURN_S)
    one.close()
    return sum(trial in p.kept for p in crew.processes.values())


def test_a_state_is_made_good_when_its_second_holder_is_lost(
    tmp_path: Path, tune: LoadedTune
) -> None:
    assert holders_after_a_loss(tune, tmp_path, Coordinator) == 2


def test_a_coordinator_that_does_not_copy_is_noticed(
    tmp_path: Path, tune: LoadedTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above."""
    mutant = mutated(monkeypatch, module, "            self._copies()\n", "")
    assert holders_after_a_loss(tune, tmp_path, mutant.Coordinator) == 1


def test_the_best_configuration_is_a_job(tmp_path: Path, tune: LoadedTune) -> None:
    summary = drive(tune, tmp_path, FakeCrew(2, value), {})
    assert summary.config is not None
    job = tune.job(summary.config).job
    assert job.optimizer.lr == summary.config["optimizer.lr"]
    assert job.steps == 90
    assert json.loads(json.dumps(summary.config)) == summary.config
