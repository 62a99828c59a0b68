"""The failure path of the controller, on a crew without processes: fence, stand, decide, go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import cast

import pytest

from ithaca.planner.plan import Plan
from ithaca.recovery.decide import Decision
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Situation, StrategyName
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import Found, Search
from ithaca.runtime.control.surface import Fenced
from ithaca.runtime.events import Decided, FailureNoticed, PlanChosen, WorkerLeft
from ithaca.runtime.journal import FILE, Fencing, Settled, parse
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.recovery_run import RefusedError
from tests.helpers.fake_crew import Bench
from tests.helpers.step_done import step_done


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


def failure(worker: int, kind: FailureClass = FailureClass.CRASH) -> Failure:
    return Failure(kind, worker, "n", evidence=f"worker {worker} died", seen_s=100.0, since_s=99.0)


def test_a_lost_worker_is_fenced_answered_and_then_killed(bench: Bench) -> None:
    bench.lose(3)
    bench.recovery.answer([failure(3)])
    assert bench.members.known == {0, 1, 2}
    assert bench.members.settled == bench.members.generation == 1
    assert bench.crew.killed == [3]
    (left,) = bench.told(WorkerLeft)
    assert (left.worker, left.reason) == (3, "worker 3 died")
    (noticed,) = bench.told(FailureNoticed)
    assert (noticed.failure, noticed.rank, noticed.generation) == ("crash", 3, 0)
    assert [type(event) for event in bench.events if isinstance(event, Decided | PlanChosen)] == [
        Decided,
        PlanChosen,
    ]
    with pytest.raises(Fenced):
        bench.members.admit(3, 0)
    with pytest.raises(Fenced):
        bench.members.admit(3, 99)
    member = bench.members.members[0]
    bench.members.admit(member, 1)
    with pytest.raises(Fenced):
        bench.members.admit(member, 0)


def test_the_journal_has_each_decision_before_it_is_carried_out(bench: Bench) -> None:
    seen: dict[str, list[str]] = {}

    def look(call: str) -> None:
        lines = (bench.mission.folder / FILE).read_text().splitlines()
        seen[call] = [parse(line).kind for line in lines]

    bench.lose(1)
    bench.crew.before = look
    bench.recovery.answer([failure(1)])
    assert seen["stand"] == ["opened", "fencing"]
    assert seen["adopt"] == ["opened", "fencing", "choosing"]
    lines = (bench.mission.folder / FILE).read_text().splitlines()
    fencing, settled = parse(lines[1]), parse(lines[-1])
    assert isinstance(fencing, Fencing)
    assert isinstance(settled, Settled)
    assert fencing.lost == {"1": "worker 1 died"}
    assert Plan.parse(settled.plan) == bench.members.plan


@pytest.mark.parametrize("call", ["stand", "adopt"])
@pytest.mark.parametrize("pair", list(combinations(range(4), 2)), ids=str)
def test_a_second_loss_during_a_recovery_begins_it_anew(
    bench: Bench, call: str, pair: tuple[int, int]
) -> None:
    first, second = pair

    def strike(name: str) -> None:
        if name == call:
            bench.lose(second)
            bench.crew.before = lambda _: None

    bench.lose(first)
    bench.crew.before = strike
    if pair in ((0, 2), (1, 3)):
        # Both holders of a stage are gone, and there is no checkpoint.
        with pytest.raises(RefusedError, match="no checkpoint"):
            bench.recovery.answer([failure(first)])
        return
    bench.recovery.answer([failure(first)])
    assert set(bench.members.members) == {0, 1, 2, 3} - set(pair)
    assert bench.members.settled == bench.members.generation > 1
    assert {event.worker for event in bench.told(WorkerLeft)} == set(pair)
    layers = {layer for w in bench.members.members for layer in bench.members.plan.held(w)}
    assert layers == set(range(6))


def test_a_survivor_that_does_not_answer_is_lost_too(bench: Bench) -> None:
    bench.lose(3)
    bench.crew.silent.add(2)
    bench.recovery.answer([failure(3)])
    assert bench.members.members == (0, 1)
    assert bench.told(FailureNoticed)[-1].failure == "hang"
    assert sorted(bench.crew.killed) == [2, 3]


def test_if_nobody_answers_it_is_nobodys_fault(bench: Bench) -> None:
    bench.lose(3)
    tries: list[str] = []

    def strike(name: str) -> None:
        tries.append(name)
        first = name == "adopt" and tries.count("adopt") == 1
        bench.crew.silent = {0, 1, 2} if first else set()

    bench.crew.before = strike
    bench.recovery.answer([failure(3)])
    assert bench.members.known == {0, 1, 2}
    assert bench.members.settled == 2


def test_if_nobody_ever_answers_the_run_ends(bench: Bench) -> None:
    bench.lose(3)
    bench.crew.silent = {0, 1, 2}
    with pytest.raises(RefusedError, match="nobody answered within"):
        bench.recovery.answer([failure(3)])


def test_what_a_late_worker_was_doing_is_asked_before_it_is_fenced(bench: Bench) -> None:
    bench.lose(3)

    def strike(name: str) -> None:
        if name == "adopt":
            bench.crew.late, bench.crew.before = {2}, lambda _: None

    bench.crew.before = strike
    bench.recovery.answer([failure(3)])
    noticed = bench.told(FailureNoticed)[-1]
    assert (noticed.worker, noticed.failure) == (2, "hang")
    assert noticed.traceback == "stacks of 2"


def test_evidence_that_comes_meanwhile_ends_the_wait(bench: Bench) -> None:
    bench.lose(3)

    def strike(name: str) -> None:
        if name == "adopt":
            bench.crew.silent.add(2)
            bench.found.append(failure(2, FailureClass.NODE))
            bench.crew.before = lambda _: bench.crew.silent.clear()

    bench.crew.before = strike
    began = bench.clock.now
    bench.recovery.answer([failure(3)])
    assert bench.clock.now - began < 2.0
    assert bench.members.members == (0, 1)


def test_a_meeting_that_fails_without_anybody_to_blame_is_tried_again(bench: Bench) -> None:
    bench.lose(3)
    bench.crew.unmet = 2
    bench.recovery.answer([failure(3)])
    assert bench.members.known == {0, 1, 2}
    assert bench.members.settled == 3


def test_a_meeting_that_always_fails_ends_the_run(bench: Bench) -> None:
    bench.lose(3)
    bench.crew.unmet = 99
    with pytest.raises(RefusedError, match="cannot meet"):
        bench.recovery.answer([failure(3)])


@pytest.mark.parametrize("pair", list(combinations(range(3), 2)), ids=str)
def test_of_two_that_do_not_reach_each_other_one_has_to_go(
    tmp_path: Path, pair: tuple[int, int]
) -> None:
    bench = Bench(tmp_path, recovery={"strategy": "reroute"})
    bench.lose(3)
    bench.crew.broken = {frozenset(pair)}
    bench.recovery.answer([failure(3)])
    # Without worker 3 nobody but worker 1 holds the second stage.
    gone = max(set(pair) - {1})
    assert set(bench.members.known) == {0, 1, 2} - {gone}
    noticed = bench.told(FailureNoticed)[-1]
    assert (noticed.failure, noticed.worker) == ("partition", gone)
    assert "it lives, but 2 times not everybody could meet" in noticed.evidence
    bench.journal.close()


def test_a_step_committed_by_one_is_rolled_forward_and_recorded(bench: Bench) -> None:
    one = bench.crew.standings[0]
    layers = one.layers
    bench.crew.standings[0] = Standing(0, 0, 4, layers, tally=one.tally, validated=3)
    for worker in (1, 2):
        held = bench.crew.standings[worker].layers
        bench.crew.standings[worker] = Standing(
            worker, 0, 3, held, reduced=held, summed={}, voted=True, tally=one.tally, validated=3,
            losses=frozenset({0}),
        )  # fmt: skip
    bench.lose(3)
    bench.recovery.answer([failure(3)])
    orders = {worker: part.orders for worker, part in bench.crew.deployed[-1].items()}
    assert orders[0].tally is None
    assert orders[1].tally == orders[2].tally == one.tally
    assert {part.step for part in orders.values()} == {4}
    assert bench.desk.recorder.ledger.committed == 4


def test_the_stacks_of_everybody_are_kept_after_a_hang(bench: Bench) -> None:
    bench.crew.silent.add(3)
    bench.recovery.answer([failure(3, FailureClass.HANG)])
    (noticed,) = bench.told(FailureNoticed)
    for worker in range(3):
        assert f"stacks of {worker}" in noticed.traceback


def test_too_few_workers_are_refused_with_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recovery={"min_workers": 4})
    bench.lose(3)
    with pytest.raises(RefusedError, match="min_workers asks for 4"):
        bench.recovery.answer([failure(3)])
    bench.journal.close()


def test_too_many_failures_are_refused_with_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recovery={"max_failures": 0})
    bench.lose(3)
    with pytest.raises(RefusedError, match="max_failures"):
        bench.recovery.answer([failure(3)])
    bench.journal.close()


def test_only_the_strategies_that_the_job_names_are_used(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recovery={"strategy": "reroute"})
    bench.lose(3)
    bench.recovery.answer([failure(3)])
    (decided,) = bench.told(Decided)
    assert decided.strategy == "reroute"
    bench.journal.close()


def test_a_spare_takes_the_place_of_a_lost_worker(tmp_path: Path) -> None:
    bench = Bench(tmp_path, spares=1, recovery={"strategy": "shadow"})
    bench.lose(3)
    bench.recovery.answer([failure(3)])
    if bench.recovery.goal is not None:
        bench.recovery.enter_goal()
    assert set(bench.members.members) == {0, 1, 2, 4}
    moves = bench.crew.deployed[-1][4].orders.moves
    assert {move.target for round_ in moves for move in round_} == {4}
    bench.journal.close()


def test_the_account_is_of_what_was_carried_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step is over, something else is decided for later."""
    bench.lose(3)
    bench.recovery.answer([failure(3)])
    (first,) = bench.told(Decided)
    bench.clock.now += 5.0

    def another(situation: Situation) -> Decision:
        decision = bench.brain.decide(situation)
        return replace(decision, chosen=replace(decision.chosen, strategy=StrategyName.SHADOW))

    monkeypatch.setattr(bench.brain, "reconsider", another)
    bench.recovery.consider()
    assert len(bench.told(Decided)) == 2
    done = bench.account.step(step_done(4, bench.members.generation))
    assert done is not None
    assert done.strategy == first.strategy
    assert done.phases["decide"] < 5.0 <= done.phases["first_step"]


def test_a_plan_that_moves_layers_waits_for_the_end_of_the_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recovery={"strategy": "reshape"})
    bench.lose(3)
    for worker in (0, 1, 2):
        now = bench.crew.standings[worker]
        bench.crew.standings[worker] = Standing(
            worker, 0, 3, now.layers, losses=frozenset({0}), tally=now.tally, validated=3,
            forwards=frozenset({(min(now.layers), 0)}) if worker < 2 else frozenset(),
        )  # fmt: skip
    bench.recovery.answer([failure(3)])
    first = bench.crew.deployed[-1]
    assert all(part.orders.moves == () for part in first.values())
    assert all(part.orders.rest is not None for part in first.values())
    goal = bench.recovery.goal
    if goal is not None:
        bench.recovery.enter_goal()
        assert bench.members.plan.pipelines == (goal.plan and goal.plan.pipelines)
    assert bench.members.settled == bench.members.plan.generation
    bench.journal.close()


class FakeStore:
    """Checkpoints of some steps, without files."""

    def __init__(self, *steps: int) -> None:
        self.steps = list(steps)

    def newest(self) -> Search:
        found = (
            Found(Path("none"), cast("Manifest", Whole(max(self.steps)))) if self.steps else None
        )
        return Search(found, ())

    def discard_after(self, step: int) -> None:
        self.steps = [each for each in self.steps if each <= step]

    distrust_after = discard_after


@dataclass
class Whole:
    """What a recovery reads of a manifest."""

    step: int
    state_hash: str = "aa"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.step, (), 8 * self.step)


def spoiled(worker: int, trusted: int) -> Failure:
    return replace(failure(worker, FailureClass.CORRUPTION), trusted=trusted)


def keep(bench: Bench, monkeypatch: pytest.MonkeyPatch, *steps: int) -> FakeStore:
    store = FakeStore(*steps)
    monkeypatch.setattr(bench.desk.keeper, "_store", store)
    bench.desk.keeper.step = max(steps, default=None)
    return store


def test_with_one_whose_state_differs_goes_what_it_may_have_spoiled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = keep(bench, monkeypatch, 1, 3)
    bench.recovery.answer([spoiled(3, 2)])
    assert bench.members.known == {0, 1, 2}
    (decided,) = bench.told(Decided)
    assert decided.strategy == "rollback"
    assert store.steps == [1]
    restores = [part.restore for part in bench.crew.deployed[-1].values()]
    assert {each.step for each in restores if each is not None} == {1}
    assert None not in restores
    assert bench.desk.recorder.ledger.committed == 1
    lines = (bench.mission.folder / FILE).read_text().splitlines()
    assert [e.trusted for e in map(parse, lines) if isinstance(e, Fencing)] == [2]


def test_without_such_a_state_nothing_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(bench, monkeypatch, 1, 3)
    bench.recovery.answer([failure(3, FailureClass.CORRUPTION)])
    (decided,) = bench.told(Decided)
    assert decided.strategy != "rollback"
    assert {part.restore for part in bench.crew.deployed[-1].values()} == {None}


@pytest.mark.parametrize("call", ["stand", "adopt"])
def test_a_further_loss_does_not_make_spoiled_states_good(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    keep(bench, monkeypatch, 1)

    def strike(name: str) -> None:
        if name == call:
            bench.lose(1)
            bench.crew.before = lambda _: None

    bench.crew.before = strike
    bench.recovery.answer([spoiled(3, 2)])
    assert bench.members.known == {0, 2}
    assert {d.strategy for d in bench.told(Decided)} == {"rollback"}
    assert all(part.restore for part in bench.crew.deployed[-1].values())


def test_a_successor_goes_back_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(bench, monkeypatch, 1)
    bench.recovery.answer((), 2)
    assert bench.told(Decided)[-1].strategy == "rollback"
    assert bench.members.known == {0, 1, 2, 3}
    bench.recovery.answer(())
    assert bench.told(Decided)[-1].strategy != "rollback"


def test_spoiled_states_and_no_old_checkpoint_end_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(bench, monkeypatch, 3)
    with pytest.raises(RefusedError, match="since step 2 may be wrong wherever it is held"):
        bench.recovery.answer([spoiled(3, 2)])


def test_the_oracle_sees_a_fence_that_comes_after_the_orders(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = bench.recovery._fence

    def late(failures: tuple[Failure, ...]) -> int:
        monkeypatch.setattr(bench.journal, "write", lambda _: None)
        return fence(failures)

    monkeypatch.setattr(bench.recovery, "_fence", late)
    with pytest.raises(AssertionError):
        test_the_journal_has_each_decision_before_it_is_carried_out(bench)
