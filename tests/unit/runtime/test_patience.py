"""Waiting for everybody: who answered, who failed, and when it is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ithaca.recovery.failure import Failure, FailureClass
from ithaca.runtime.crew import Silence
from ithaca.runtime.engine.drive import ChannelFailed
from ithaca.runtime.patience import MoreError, Patience
from ithaca.runtime.timeouts import Timeouts
from tests.helpers.fake_crew import Answered, Bench

EVERYBODY = frozenset(range(4))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


def patience(bench: Bench, look: Callable[[], tuple[Failure, ...]] = tuple) -> Patience:
    limits = Timeouts.from_detect(2.0)
    return Patience(bench.desk, bench.crew.dump, look, bench.clock, limits)


def answered(bench: Bench, answers: dict[int, object]) -> Answered:
    return Answered(answers, EVERYBODY, bench.clock)


def test_everybodys_standing_is_what_they_answered(bench: Bench) -> None:
    standings = dict(bench.crew.standings)
    assert patience(bench).stand(answered(bench, {**standings})) == standings


@pytest.mark.parametrize("worker", EVERYBODY)
@pytest.mark.parametrize("dead", [True, False])
def test_who_answers_with_an_error_has_failed(bench: Bench, worker: int, dead: bool) -> None:
    answers = {**bench.crew.standings, worker: Silence("gone", dead=dead)}
    with pytest.raises(MoreError) as more:
        patience(bench).stand(answered(bench, answers))
    (failure,) = more.value.failures
    kind = FailureClass.CRASH if dead else FailureClass.HANG
    assert (failure.worker, failure.kind) == (worker, kind)
    assert failure.evidence == "gone when everybody had to stand"


def test_no_wait_is_longer_than_its_bound(bench: Bench) -> None:
    answers: dict[int, object] = {w: s for w, s in bench.crew.standings.items() if w != 2}
    began = bench.clock.now
    with pytest.raises(MoreError) as more:
        patience(bench).stand(answered(bench, answers))
    assert [each.worker for each in more.value.failures] == [2]
    assert more.value.failures[0].traceback == "stacks of 2"
    assert bench.clock.now - began < 2.0 + 0.1


def test_if_nobody_answers_nobody_is_blamed(bench: Bench) -> None:
    with pytest.raises(MoreError, match="nobody answered within") as more:
        patience(bench).meet(answered(bench, {}), lambda: None)
    assert more.value.failures == ()
    assert more.value.apart is None


def test_other_evidence_ends_the_wait_at_once(bench: Bench) -> None:
    found = Failure(FailureClass.NODE, 1, "a", evidence="its node is gone")
    began = bench.clock.now
    with pytest.raises(MoreError) as more:
        patience(bench, lambda: (found,)).stand(answered(bench, {}))
    assert more.value.failures == (found,)
    assert bench.clock.now - began < 0.1


def test_a_meeting_that_failed_names_who_kept_the_others_apart(bench: Bench) -> None:
    def missing(*workers: int) -> Silence:
        error = ChannelFailed("meet", "timed out", absent=frozenset(workers))
        return Silence("timed out", error=error)

    answers: dict[int, object] = {0: missing(3), 1: missing(3), 2: True, 3: missing(0)}
    with pytest.raises(MoreError) as more:
        patience(bench).meet(answered(bench, answers), lambda: None)
    assert more.value.failures == ()
    assert more.value.apart == 3
    cut = patience(bench).cut_off(3, str(more.value))
    assert (cut.worker, cut.kind) == (3, FailureClass.PARTITION)
    assert "worker 0: timed out" in cut.evidence


def test_while_somebody_is_dead_those_who_did_not_meet_are_not_to_blame(bench: Bench) -> None:
    error = ChannelFailed("meet", "timed out")
    answers: dict[int, object] = {
        0: Silence("timed out", error=error), 1: True, 2: True, 3: Silence("died", dead=True),
    }  # fmt: skip
    with pytest.raises(MoreError) as more:
        patience(bench).meet(answered(bench, answers), lambda: None)
    assert [(each.worker, each.kind) for each in more.value.failures] == [(3, FailureClass.CRASH)]


def test_who_waits_goes_on_with_other_work(bench: Bench) -> None:
    turns: list[int] = []
    pending = answered(bench, {0: True, 1: True, 2: True})

    def meanwhile() -> None:
        turns.append(1)
        pending.known = dict.fromkeys(EVERYBODY, True)

    patience(bench).meet(pending, meanwhile)
    assert turns == [1]
