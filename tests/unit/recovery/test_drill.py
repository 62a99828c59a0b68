"""Schedules from a seed, and verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.planner.plan import Plan
from ithaca.recovery.drill import LETHAL, Expectation, Result, Soak, Trace, differences, judge
from ithaca.recovery.fault import Fault, FaultKind
from ithaca.recovery.timeline import Account, Episode, Injection, Notice

PLAN = Plan.parse(
    "plan generation=0 schedule=1f1b\npipeline 0-3 0:3@w0 3:6@w1\npipeline 4-7 0:3@w2 3:6@w3\n"
)
TRACE = Trace(
    {step: f"hash {step}" for step in range(1, 6)},
    {step: (f"{step / 7!r}", "0.0", "1.0", 64) for step in range(1, 6)},
)
FAULT = Fault.parse("crash stage0.pipeline1 at step 3 before B m5")
NOTICE = Notice(10.1, 0, "crash", 2, "a", 2, 3, "B 0:3 m5", "gone")
EPISODE = Episode(
    notices=(NOTICE,),
    injections=(Injection(10.0, "crash w2 at step 3 before B m5", 2, 3, "B 0:3 m5"),),
    ended_s=10.5,
    strategy="reroute",
    phases={"detect": 0.1},
    redone_micro_batches=2,
    redone=({"first": 0, "last": 3, "micro_batch": 5, "op": "F"},),
    pause_s=0.2,
)
GOOD = Result(
    "finished", 0, "5 of 5 steps are done", TRACE, Account((EPISODE,), ()),
    ("crash w2 at step 3 before B m5",), {0: PLAN},
)  # fmt: skip
STRICT = Expectation(
    failures=("crash",), strategies=("reroute|reshape",), recoveries=1, max_pause_s=0.5,
    max_detect_s=0.5, max_redone=4, message="steps are done",
)  # fmt: skip


def verdict(result: Result = GOOD, expected: Expectation = STRICT) -> tuple[str, ...]:
    return judge(expected, result, TRACE, [FAULT])


def test_a_good_result_passes() -> None:
    assert verdict() == ()


def other(episode: Any = None, **changes: Any) -> Result:  # noqa: ANN401
    if episode is not None:
        changes["account"] = Account((replace(EPISODE, **episode),), ())
    return replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (other(outcome="failed"), "the run ended failed, not finished"),
        (other(outcome=None), "without a last record"),
        (other(exit_code=1), "exit code 1, not 0"),
        (other(text="nothing"), "nothing says 'steps are done'"),
        (other(struck=()), "never struck"),
        (other(account=Account((), ())), "0 recoveries, not 1"),
        (other({"strategy": "rollback"}), "recovered by"),
        (other({"notices": (replace(NOTICE, failure="hang"),)}), "noticed were"),
        (other({"pause_s": 0.7}), "pause: 0.7 s, more than 0.5 s"),
        (other({"redone_micro_batches": 5}), "work done again: 5 micro-batches"),
        (other({"lost_samples": 3}), "3 samples lost or repeated, not 0"),
        (other({"notices": (replace(NOTICE, time_s=11.0),)}), "detection: 1 s"),
        (other(trace=replace(TRACE, states={**TRACE.states, 4: "other"})), "after step 4: state"),
        (other(trace=replace(TRACE, losses={**TRACE.losses, 2: ("1", "0", "1", 64)})),
         "after step 2: loss, norm or samples"),
        (other({"redone": ({"first": 3, "last": 6, "micro_batch": 5, "op": "F"},)}),
         "layers that nobody lost"),
    ],
)  # fmt: skip
def test_each_difference_is_told(result: Result, says: str) -> None:
    problems = verdict(result)
    assert any(says in problem for problem in problems), problems


def test_what_is_not_asked_for_is_not_judged() -> None:
    free = Expectation(outcome=None, exit_code=None, identical=False)
    wild = other(outcome="failed", exit_code=7, trace=Trace({}, {}))
    assert verdict(wild, free) == ()


def test_missing_and_extra_steps_are_differences() -> None:
    short = Trace({1: "hash 1"}, {1: TRACE.losses[1]})
    assert any("never done" in line for line in differences(short, TRACE))
    assert any("no hash of the state" in line for line in differences(short, TRACE))
    assert any("are not in the undisturbed" in line for line in differences(TRACE, short))
    assert differences(TRACE, TRACE) == []


KINDS = tuple(kind for kind in FaultKind if kind not in (FaultKind.NOTICE,))


@given(st.integers(0, 2**32), st.integers(1, 3), st.permutations(range(5)))
def test_a_soak_is_a_function_of_its_seed(seed: int, faults: int, workers: list[int]) -> None:
    soak = Soak(seed, faults, KINDS, 3, 9, for_s=4.0)
    schedule = soak.schedule(workers)
    assert schedule == soak.schedule(workers)
    assert len(schedule) == faults
    lethal = [fault.target for fault in schedule if fault.kind in LETHAL]
    assert len(set(lethal)) == len(lethal) < len(workers)
    for fault in schedule:
        assert 3 <= fault.step <= 9
        assert Fault.parse(str(fault)) == fault
    assert [fault.step for fault in schedule] == sorted(fault.step for fault in schedule)
    for number, fault in enumerate(schedule):
        assert fault.kind not in LETHAL or fault.target not in {
            f.target for f in schedule[number + 1 :]
        }


def test_a_soak_that_leaves_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="leave none of 2 workers"):
        Soak(0, 2, (FaultKind.CRASH,), 1, 2).schedule([0, 1])


def test_another_seed_is_another_schedule() -> None:
    drawn = {Soak(seed, 3, (FaultKind.CRASH,), 1, 99).schedule(range(6)) for seed in range(20)}
    assert len(drawn) > 15
