"""Episodes from records: what belongs together, and what a fault did without anybody noticing."""

from __future__ import annotations

from typing import Any

import pytest

from ithaca.recovery import timeline as timeline_module
from ithaca.recovery.timeline import PHASES, account

Record = dict[str, Any]


def injected(time_s: float, worker: int | None, fault: str = "crash") -> Record:
    return {
        "kind": "fault_injected", "time_s": time_s, "fault": f"{fault} w{worker} at step 3",
        "worker": worker, "step": 3, "action": "B 0:3 m1",
    }  # fmt: skip


def noticed(time_s: float, worker: int | None, failure: str = "crash") -> Record:
    return {
        "kind": "failure_noticed", "time_s": time_s, "generation": 0, "failure": failure,
        "worker": worker, "node": "a", "rank": worker, "step": 3, "action": "B 0:3 m1",
        "evidence": "its connection closed", "traceback": "",
    }  # fmt: skip


def decided(time_s: float, strategy: str) -> Record:
    return {
        "kind": "decided", "time_s": time_s, "generation": 1, "strategy": strategy, "plan": "p",
        "reason": "best score", "candidates": [{"strategy": strategy, "feasible": True}],
        "predicted_step_s": 0.5, "predicted_transition_s": 0.1,
    }  # fmt: skip


def recovered(time_s: float, strategy: str, **more: Any) -> Record:  # noqa: ANN401
    phases = {name: 0.01 * (number + 1) for number, name in enumerate(reversed(PHASES))}
    return {
        "kind": "recovered", "time_s": time_s, "generation": 1, "strategy": strategy,
        "phases": phases, "redone": [{"first": 0, "last": 3, "micro_batch": 1, "op": "F"}],
        "redone_micro_batches": 1, "lost_samples": 0, "pause_s": 0.2, "predicted_step_s": 0.5,
        "predicted_transition_s": 0.1, **more,
    }  # fmt: skip


ONE = [injected(10.0, 1), noticed(10.02, 1), decided(10.05, "reroute"), recovered(10.3, "reroute")]


def test_one_failure() -> None:
    found = account([{"kind": "step_done", "time_s": 9.0}, *ONE])
    (episode,) = found.episodes
    assert found.unnoticed == ()
    assert (episode.recovered, episode.strategy, episode.began_s) == (True, "reroute", 10.0)
    assert list(episode.phases) == list(PHASES)
    assert episode.phases["first_step"] == pytest.approx(0.01)
    assert episode.total_s == pytest.approx(0.28)
    assert episode.latency_s == pytest.approx(0.02)
    assert episode.choices[0].candidates == ({"strategy": "reroute", "feasible": True},)
    assert [each.worker for each in episode.injections] == [1]
    assert (episode.redone_micro_batches, episode.lost_samples, episode.pause_s) == (1, 0, 0.2)


def step(seconds: float) -> Record:
    return {"kind": "step_done", "time_s": 0.0, "seconds": seconds}


def test_the_steps_that_follow_are_measured_against_the_prediction() -> None:
    after = [step(0.5), step(0.7), step(0.6)]
    failing = [noticed(20.0, 0), step(9.0), decided(20.1, "reroute"), step(9.0)]
    found = account([step(3.0), *ONE, *after, *failing, recovered(21.0, "reroute")])
    assert [each.measured_step_s for each in found.episodes] == [0.6, None]
    assert found.episodes[0].predicted_step_s == 0.5


def test_a_failure_during_a_recovery_belongs_to_it() -> None:
    found = account(
        [
            injected(10.0, 1), noticed(10.02, 1), decided(10.05, "reroute"),
            injected(10.06, 2), noticed(10.08, 2), decided(10.09, "reshape"),
            recovered(10.5, "reshape"),
        ]
    )  # fmt: skip
    (episode,) = found.episodes
    assert [notice.worker for notice in episode.notices] == [1, 2]
    assert [each.worker for each in episode.injections] == [1, 2]
    assert [choice.strategy for choice in episode.choices] == ["reroute", "reshape"]


def test_each_fault_goes_to_its_own_episode() -> None:
    second = [
        injected(20.0, 0, "stop"), noticed(22.0, 0, "hang"), decided(22.1, "reshape"),
        recovered(22.6, "reshape"),
    ]  # fmt: skip
    slow = injected(15.0, 3, "slow")
    found = account([*ONE, slow, *second])
    assert [[each.worker for each in episode.injections] for episode in found.episodes] == [
        [1],
        [0],
    ]
    assert [each.worker for each in found.unnoticed] == [3]
    assert found.episodes[1].latency_s == pytest.approx(2.0)


def test_a_fault_that_shows_elsewhere_is_still_the_cause() -> None:
    found = account([injected(10.0, 1, "kill-raylet"), noticed(11.0, None, "node"), *ONE[2:]])
    assert [each.worker for each in found.episodes[0].injections] == [1]
    assert account([noticed(9.0, 1), *ONE[2:], injected(12.0, 1)]).unnoticed != ()


def test_a_recovery_that_never_ended() -> None:
    (episode,) = account(ONE[:3]).episodes
    assert not episode.recovered
    assert (episode.strategy, episode.phases, episode.pause_s) == ("reroute", {}, None)
    (noticed_only,) = account(ONE[:2]).episodes
    assert noticed_only.strategy == ""
    assert account([]).episodes == ()


def test_a_joined_worker_is_an_episode_without_a_failure() -> None:
    (episode,) = account([decided(5.0, "rejoin"), recovered(5.5, "rejoin")]).episodes
    assert (episode.notices, episode.injections, episode.began_s) == ((), (), 5.0)
    assert episode.latency_s is None


def test_replaced_controllers_are_counted() -> None:
    restart = {"kind": "controller_restarted", "time_s": 10.2, "incarnation": 1}
    found = account([injected(10.0, None), restart, *ONE])
    assert found.restarts == (10.2,)
    assert len(found.episodes) == 1


def test_records_of_a_later_version_are_read() -> None:
    (episode,) = account([{**record, "more": 1} for record in ONE]).episodes
    assert episode.recovered


def test_the_order_of_the_phases_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_module, "_ordered", lambda phases: iter(phases))
    (episode,) = account(ONE).episodes
    assert list(episode.phases) != list(PHASES)
