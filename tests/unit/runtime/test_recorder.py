"""The recorder: every step once, in order, whoever tells it; and whose state differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from ithaca.planner.plan import Plan
from ithaca.recovery.tally import Tally
from ithaca.runtime import recorder as recorder_module
from ithaca.runtime.events import Event, LayersHashed, StateHashed, StepDone, Warned
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.recorder import Recorder, ReplicasDifferError
from tests.helpers.fake_crew import TALLY
from tests.helpers.fake_crew import mission as mission_of
from tests.helpers.step_done import step_done

GOOD, BAD, WORSE = "aa", "bb", "cc"
HEAD = "plan generation=0 schedule=1f1b\n"
THREE = f"{HEAD}pipeline 0-2 0:6@w0\npipeline 3-5 0:6@w1\npipeline 6-7 0:6@w2\n"
PAIR = f"{HEAD}pipeline 0-3 0:6@w0\npipeline 4-7 0:6@w1\n"


class Bench:
    """A recorder of three workers that hold everything, and what it told."""

    def __init__(self, folder: Path, plan: str = THREE, committed: int = 0) -> None:
        mission = replace(mission_of(folder, 0), plan=Plan.parse(plan))
        self.names = mission.names
        self.events: list[Event] = []
        self.steps: list[tuple[int, int]] = []
        self.differ: list[ReplicasDifferError] = []
        self.recorder = Recorder(
            mission, self.events.append, Ledger(committed, (), 8 * committed),
            lambda event, ledger: self.steps.append((event.step, ledger.committed)),
            self.differ.append, lambda _: None, lambda _: None, lambda _: 0.1,
        )  # fmt: skip

    def hashed(self, step: int, *values: str, generation: int = 0, layer: int = 0) -> None:
        """Each worker in turn tells its hashes; ``values`` are those of one layer."""
        for worker, value in enumerate(values):
            hashes = {**dict.fromkeys(self.names, GOOD), self.names[layer]: value}
            self.tell(step, worker, hashes, generation)

    def tell(self, step: int, worker: int, hashes: Mapping[str, str], generation: int = 0) -> None:
        event = LayersHashed(
            time_s=0.0, step=step, worker=worker, hashes=dict(hashes), generation=generation
        )
        self.recorder.take(worker, [event.to_json()])

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_step_counts_once_whoever_tells_it_first(bench: Bench, order: tuple[int, ...]) -> None:
    for step in (1, 2):
        for worker in order:
            bench.recorder.take(worker, [step_done(step).to_json()])
    assert bench.steps == [(1, 1), (2, 2)]
    assert bench.recorder.ledger.committed == 2
    assert len(bench.told(StepDone)) == 2


def test_a_step_that_nobody_tells_is_made_good_and_said(bench: Bench) -> None:
    bench.recorder.take(0, [step_done(1).to_json(), step_done(4).to_json()])
    assert bench.recorder.ledger.committed == 4
    (warned,) = bench.told(Warned)
    assert isinstance(warned, Warned)
    assert "steps 2 to 3 were committed" in warned.message


def test_a_step_is_recorded_for_those_who_cannot_tell_it_any_more(bench: Bench) -> None:
    tally: Tally = TALLY
    bench.recorder.committed(2, tally, 0)  # not the next one
    assert bench.steps == []
    bench.recorder.committed(1, tally, 0)
    bench.recorder.take(0, [step_done(1, loss=9.0).to_json()])
    assert bench.steps == [(1, 1)]


def test_states_that_agree_have_one_hash(bench: Bench) -> None:
    bench.hashed(1, GOOD, GOOD, GOOD)
    (hashed,) = bench.told(StateHashed)
    assert isinstance(hashed, StateHashed)
    assert hashed.layers == dict.fromkeys(bench.names, GOOD)
    assert bench.differ == []


def test_nothing_is_compared_before_all_have_told(bench: Bench) -> None:
    bench.hashed(1, GOOD, BAD)
    assert bench.differ == []
    assert bench.told(StateHashed) == []


@pytest.mark.parametrize("wrong", range(3))
@pytest.mark.parametrize("layer", [0, 5])
def test_whoever_differs_from_the_others_is_named(bench: Bench, wrong: int, layer: int) -> None:
    bench.hashed(1, GOOD, GOOD, GOOD)
    values = [BAD if worker == wrong else GOOD for worker in range(3)]
    bench.hashed(3, *values, layer=layer)
    (error,) = bench.differ
    assert (error.workers, error.step, error.agreed) == (frozenset({wrong}), 3, 1)
    assert f"worker {wrong} holds {BAD}" in str(error)
    assert bench.names[layer] in str(error)


def test_of_two_that_differ_nobody_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PAIR)
    bench.hashed(1, GOOD, BAD)
    (error,) = bench.differ
    assert error.workers == frozenset()
    assert f"worker 0 holds {GOOD} and worker 1 holds {BAD}" in str(error)


def test_of_three_that_all_differ_nobody_is_named(bench: Bench) -> None:
    bench.hashed(1, GOOD, BAD, WORSE)
    assert bench.differ[0].workers == frozenset()


def test_one_layer_without_a_majority_makes_all_doubtful(bench: Bench) -> None:
    first, second = bench.names[:2]
    bench.tell(1, 0, {**dict.fromkeys(bench.names, GOOD), second: GOOD})
    bench.tell(1, 1, {**dict.fromkeys(bench.names, GOOD), second: BAD})
    bench.tell(1, 2, {**dict.fromkeys(bench.names, GOOD), first: BAD, second: WORSE})
    assert bench.differ[0].workers == frozenset()
    assert "1 other layers" in str(bench.differ[0])


def test_a_difference_is_told_once_until_training_has_gone_back(bench: Bench) -> None:
    bench.hashed(1, GOOD, GOOD, GOOD)
    bench.hashed(2, GOOD, GOOD, BAD)
    bench.hashed(3, GOOD, GOOD, BAD)
    assert [error.step for error in bench.differ] == [2]
    assert [event.step for event in bench.told(StateHashed)] == [1]  # type: ignore[attr-defined]
    bench.recorder.back_to(Ledger(1, (), 8), 1)
    bench.hashed(2, GOOD, GOOD, GOOD, generation=1)
    bench.hashed(3, GOOD, BAD, GOOD, generation=1)
    assert [(error.step, error.agreed) for error in bench.differ] == [(2, 1), (3, 2)]


def test_what_was_given_up_is_not_taken_for_what_is_done_again(bench: Bench) -> None:
    bench.recorder.take(0, [step_done(1).to_json(), step_done(2, loss=5.0).to_json()])
    bench.recorder.back_to(Ledger(1, (), 8), 1)
    bench.recorder.take(1, [step_done(2, loss=5.0).to_json()])
    bench.hashed(2, BAD, BAD, BAD)
    assert bench.recorder.ledger.committed == 1
    assert bench.told(StateHashed) == []
    bench.recorder.take(1, [step_done(2, generation=1).to_json()])
    bench.hashed(2, GOOD, GOOD, GOOD, generation=1)
    assert bench.recorder.ledger.committed == 2
    losses = [event.loss for event in bench.told(StepDone)]  # type: ignore[attr-defined]
    assert losses == [1.0, 5.0, 1.0]


def test_after_a_resume_the_checkpoint_is_what_all_agreed_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, committed=4)
    bench.hashed(5, GOOD, GOOD, BAD)
    assert bench.differ[0].agreed == 4


def test_a_successor_knows_what_all_agreed_on(bench: Bench, tmp_path: Path) -> None:
    bench.hashed(1, GOOD, GOOD, GOOD)
    bench.recorder.take(0, [step_done(1).to_json()])
    successor = Bench(tmp_path / "next")
    successor.recorder.remember(bench.events)
    assert successor.recorder.ledger.committed == 1
    successor.hashed(2, GOOD, GOOD, BAD)
    assert successor.differ[0].agreed == 1


def test_a_successor_does_not_count_what_was_given_up(bench: Bench) -> None:
    events = [
        step_done(1),
        step_done(2, loss=5.0),
        step_done(3, loss=5.0),
        step_done(2, generation=1),
    ]
    bench.recorder.remember(events)
    assert bench.recorder.ledger.committed == 2
    assert bench.recorder.last == events[-1]


def test_the_oracle_sees_a_recorder_that_does_not_count_votes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recorder_module._difference

    def careless(*given: object) -> ReplicasDifferError:
        found = real(*given)  # type: ignore[arg-type]
        return ReplicasDifferError(str(found), frozenset({0}), found.step, found.agreed)

    monkeypatch.setattr(recorder_module, "_difference", careless)
    with pytest.raises(AssertionError):
        test_whoever_differs_from_the_others_is_named(bench, 1, 0)
