"""The validator refuses every Program that was really broken, and says where and why."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from ithaca.planner import validate as validate_module
from ithaca.planner.plan import Plan
from ithaca.planner.program import (
    Action,
    Cargo,
    Commit,
    Compute,
    Op,
    Program,
    Reduce,
    Share,
    Step,
    Tie,
    Transfer,
)
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.span import Span
from ithaca.planner.validate import ProgramError, validate
from tests.helpers.plans import Case, random_case

Programs = dict[int, Program]


def schedule(case: Case) -> Programs:
    """The training step of ``case``."""
    return programs(case.plan, case.plan.num_layers, case.ties, case.split)


def edited(found: Programs, worker: int, actions: list[Action]) -> Programs:
    """``found`` with other actions for one worker."""
    return {**found, worker: replace(found[worker], actions=tuple(actions))}


def drop(rng: Random, actions: list[Action], worker: int) -> None:
    """Leave one action out."""
    del actions[rng.randrange(len(actions))]


def repeat(rng: Random, actions: list[Action], worker: int) -> None:
    """Do one action twice, the second time anywhere behind."""
    index = rng.randrange(len(actions))
    actions.insert(rng.randint(index + 1, len(actions)), actions[index])


def retarget(rng: Random, actions: list[Action], worker: int) -> None:
    """Change what one action is about."""
    index = rng.randrange(len(actions))
    match actions[index]:
        case Compute() as action:
            last = action.layers.last + 1
            actions[index] = rng.choice(
                [
                    replace(action, micro_batch=action.micro_batch + 1),
                    replace(action, layers=Span(action.layers.first, last)),
                    replace(action, op=Op.B if action.op is Op.F else Op.F),
                ]
            )
        case Transfer() as action:
            turned = Op.SEND if action.op is Op.RECV else Op.RECV
            other = Cargo.ACTIVATION if action.cargo is Cargo.GRADIENT else Cargo.GRADIENT
            actions[index] = rng.choice(
                [
                    replace(action, peer=worker),
                    replace(action, peer=action.peer + 1),
                    replace(action, micro_batch=action.micro_batch + 1),
                    replace(action, cut=action.cut + 1),
                    replace(action, op=turned),
                    replace(action, cargo=other),
                ]
            )
        case Reduce() as action:
            first, *rest = action.shares
            ids = first.micro_batches
            wrong = Share(first.worker, ids[1:] if ids else (0,))
            actions[index] = replace(action, shares=(wrong, *rest))
        case Tie() as action:
            actions[index] = replace(action, upper=action.upper + 1)
        case Commit():
            actions[index] = Step(Span(0, 1))
        case Step() as action:
            actions[index] = Step(Span(action.layers.first, action.layers.last + 1))


def needs(before: Action, after: Action) -> bool:
    """Whether ``after`` uses what ``before`` makes, so that they cannot change places."""
    match before, after:
        case Transfer(op=Op.RECV), Compute(op=op) if op is not Op.W:
            forward = before.cargo is Cargo.ACTIVATION
            cut = after.layers.first if forward else after.layers.last
            same = (before.cut, before.micro_batch) == (cut, after.micro_batch)
            return same and forward == (op is Op.F)
        case Compute(op=op), Transfer(op=Op.SEND) if op is not Op.W:
            forward = after.cargo is Cargo.ACTIVATION
            cut = before.layers.last if forward else before.layers.first
            same = (after.cut, after.micro_batch) == (cut, before.micro_batch)
            return same and forward == (op is Op.F)
        case Compute(op=Op.F), Compute(op=Op.B | Op.I):
            return (before.layers, before.micro_batch) == (after.layers, after.micro_batch)
        case Compute(op=Op.I), Compute(op=Op.W):
            return (before.layers, before.micro_batch) == (after.layers, after.micro_batch)
        case Compute(op=Op.B | Op.W), Reduce():
            return after.layers.first in before.layers
        case (Reduce(), Commit()) | (Tie(), Commit()) | (Commit(), Step()):
            return True
    return False


def swap(rng: Random, actions: list[Action], worker: int) -> None:
    """Exchange two actions of which the later one needs the earlier one."""
    pairs = [
        (i, j)
        for i in range(len(actions))
        for j in range(i + 1, len(actions))
        if needs(actions[i], actions[j])
    ]
    i, j = rng.choice(pairs)
    actions[i], actions[j] = actions[j], actions[i]


@pytest.mark.parametrize("mutate", [drop, repeat, retarget, swap])
def test_mutants_are_refused(mutate: Callable[[Random, list[Action], int], None]) -> None:
    for seed in range(500):
        rng = Random(seed)
        case = random_case(rng)
        found = schedule(case)
        worker = rng.choice(sorted(found))
        actions = list(found[worker].actions)
        mutate(rng, actions, worker)
        assert tuple(actions) != found[worker].actions
        with pytest.raises(ProgramError):
            validate(edited(found, worker, actions), plan=case.plan, ties=case.ties)


def test_mutants_are_refused_without_the_plan() -> None:
    for seed in range(300):
        rng = Random(seed)
        case = random_case(rng)
        found = schedule(case)
        worker = rng.choice(sorted(found))
        actions = list(found[worker].actions)
        swap(rng, actions, worker)
        with pytest.raises(ProgramError):
            validate(edited(found, worker, actions))


def test_messages_in_another_order_deadlock() -> None:
    """Neighbouring messages of one worker in turned order: valid or a circle, never a crash."""
    circles = 0
    for seed in range(300):
        rng = Random(seed)
        case = random_case(rng)
        found = schedule(case)
        for worker, index in _neighbouring_collectives(found):
            actions = list(found[worker].actions)
            actions[index], actions[index + 1] = actions[index + 1], actions[index]
            with pytest.raises(ProgramError, match="deadlock"):
                validate(edited(found, worker, actions), plan=case.plan, ties=case.ties)
            circles += 1
    assert circles > 50


def _neighbouring_collectives(found: Programs) -> Iterator[tuple[int, int]]:
    """Positions of two REDUCEs next to each other that a second worker shares."""
    for worker, program in found.items():
        for index, (one, two) in enumerate(zip(program.actions, program.actions[1:], strict=False)):
            if isinstance(one, Reduce) and isinstance(two, Reduce):
                shared = {s.worker for s in one.shares} & {s.worker for s in two.shares}
                if len(shared) > 1:
                    yield worker, index


# --- a set of Programs by hand: two workers hold everything and exchange micro-batches ----------


def crossing(first_of_1: str, second_of_1: str) -> Programs:
    """m0 goes from worker 0 to 1, m1 from worker 1 to 0; both workers hold both layers."""
    tail = "REDUCE 0:1 w0:0 w1:1\nREDUCE 1:2 w0:1 w1:0\nCOMMIT\nSTEP 0:2\n"
    zero = (
        "program worker=0 generation=0 layers=2 micro_batches=2\nF 0:1 m0\nSEND a1 m0 > w1\n"
        "RECV a1 m1 < w1\nF 1:2 m1\nB 1:2 m1\nSEND g1 m1 > w1\nRECV g1 m0 < w1\nB 0:1 m0\n"
    )
    one = (
        f"program worker=1 generation=0 layers=2 micro_batches=2\nF 0:1 m1\n{first_of_1}\n"
        f"{second_of_1}\nF 1:2 m0\nB 1:2 m0\nRECV g1 m1 < w0\nSEND g1 m0 > w0\nB 0:1 m1\n"
    )
    return {0: Program.parse(zero + tail), 1: Program.parse(one + tail)}


def test_crossing_messages_in_order_are_valid() -> None:
    validate(crossing("RECV a1 m0 < w0", "SEND a1 m1 > w0"))


def test_crossing_sends_are_a_deadlock_and_its_circle_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cyclic = crossing("SEND a1 m1 > w0", "RECV a1 m0 < w0")
    with pytest.raises(ProgramError) as caught:
        validate(cyclic)
    message = str(caught.value)
    assert message.startswith("deadlock: worker ")
    assert "worker 0, line 3 'SEND a1 m0 > w1' waits for worker 1" in message
    assert "worker 1, line 3 'SEND a1 m1 > w0' waits for worker 0" in message
    monkeypatch.setattr(validate_module, "check_progress", lambda programs: None)
    validate(cyclic)  # nothing but the run under blocking messages sees it


VALID = crossing("RECV a1 m0 < w0", "SEND a1 m1 > w0")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SEND a1 m0 > w1", "", "worker 0, line 2 'F 0:1 m0': what it yields is neither used"),
        ("RECV a1 m1 < w1\n", "", "worker 0, line 4 'F 1:2 m1': its input a1 m1 is not here yet"),
        ("SEND a1 m0 > w1", "SEND a1 m0 > w0", "worker 0 is not another worker"),
        ("SEND a1 m0 > w1", "SEND a1 m0 > w7", "worker 7 is not another worker"),
        ("SEND a1 m0 > w1", "SEND a2 m0 > w1", "cuts are 1 to 1"),
        ("SEND a1 m0 > w1", "SEND a1 m9 > w1", "micro-batches are 0 to 1"),
        ("SEND a1 m0 > w1", "SEND g1 m0 > w1", "not been computed here before"),
        ("F 0:1 m0", "F 0:3 m0", "the workload has layers 0 to 1"),
        ("B 1:2 m1", "I 1:2 m1", "gradients of layer 1 computed here: -"),
        ("B 1:2 m1", "W 1:2 m1", "there is no I of the same layers"),
        ("B 1:2 m1", "I 1:2 m1\nB 1:2 m1", "no F of the same layers without B or I"),
        ("F 1:2 m1", "F 1:2 m1\nF 1:2 m1", "layer 1 has had its F of m1"),
        ("w0:0 w1:1", "w0:0-1 w1:-", "gradients of layer 0 computed here: 0"),
        ("w0:0 w1:1", "w0:0 w1:0", "shares must cover 0-1 once, not"),
        ("w0:0 w1:1", "w1:1 w0:0", "once, ascending"),
        ("w0:0 w1:1", "w1:0-1", "shares name this worker"),
        ("REDUCE 0:1 w0:0 w1:1\n", "", "layer 0 has not been reduced here"),
        ("REDUCE 0:1 w0:0 w1:1\n", "REDUCE 0:1 w0:0 w1:1\n" * 2, "twice"),
        ("COMMIT\n", "", "STEP stands behind COMMIT"),
        ("COMMIT\nSTEP 0:2\n", "", "has no COMMIT"),
        ("STEP 0:2", "STEP 0:1", "layer 1 is reduced here but has no STEP"),
        ("STEP 0:2", "STEP 0:2\nSTEP 0:1", "layer 0 is stepped twice"),
        ("STEP 0:2", "STEP 0:3", "layer 2 has not been reduced here"),
        ("COMMIT", "TIE 0~1 w0,w1 ~ w0,w1\nCOMMIT", "worker 1 has no such action"),
        ("COMMIT", "TIE 1~0 w0,w1 ~ w0,w1\nCOMMIT", "the lower first"),
        ("COMMIT", "TIE 0~1 w1,w0 ~ w0,w1\nCOMMIT", "once each, ascending"),
        ("COMMIT", "TIE 0~1 w1 ~ w0,w1\nCOMMIT", "who is named for layer 0 has reduced"),
        ("COMMIT", "COMMIT\nCOMMIT", "only STEP may follow COMMIT"),
        ("generation=0", "generation=1", "programs differ"),
        ("worker=0", "worker=1", "worker 0 has worker 1's program"),
    ],
)
def test_reasons(old: str, new: str, message: str) -> None:
    text = str(VALID[0])
    assert old in text
    with pytest.raises(ProgramError) as caught:
        validate({0: Program.parse(text.replace(old, new)), 1: VALID[1]})
    assert message in str(caught.value)


def test_work_without_an_end_is_refused() -> None:
    head, _, tail = str(VALID[0]).partition("REDUCE")
    for text, message in (
        (head + "COMMIT\n", "worker 0 computes layer 1, unreduced"),
        (head.replace("B 1:2", "I 1:2") + "COMMIT\n", "this I has no W behind it"),
        (head.replace("B 0:1 m0\n", "") + "COMMIT\n", "neither used here nor sent on"),
    ):
        with pytest.raises(ProgramError, match=message):
            validate({0: Program.parse(text), 1: VALID[1]})
    assert tail


def test_missing_counterparts_are_named() -> None:
    found = programs(PLAN)
    for old, new, message in (
        ("SEND a1 m0 > w1", "SEND a1 m0 > w2", "worker 2 has no RECV for it"),
        ("RECV g1 m1 < w1", "RECV g1 m1 < w2", r"worker 2 has no SEND for it|no RECV for it"),
    ):
        text = str(found[0])
        assert old in text
        with pytest.raises(ProgramError, match=message):
            validate({**found, 0: Program.parse(text.replace(old, new))})


def test_nobody_computes() -> None:
    empty = Program.parse("program worker=0 generation=0 layers=1 micro_batches=1\nCOMMIT\n")
    with pytest.raises(ProgramError, match="nobody computes layer 0 for m0"):
        validate({0: empty})
    with pytest.raises(ProgramError, match="there are no programs"):
        validate({})
    with pytest.raises(ProgramError, match="at least one layer"):
        validate({0: replace(empty, num_layers=0)})


def test_two_workers_compute_the_same() -> None:
    text = (
        "program worker=0 generation=0 layers=1 micro_batches=1\nF 0:1 m0\nB 0:1 m0\n"
        "REDUCE 0:1 w0:0\nCOMMIT\nSTEP 0:1\n"
    )
    twice = {w: Program.parse(text.replace("r=0", f"r={w}").replace("w0", f"w{w}")) for w in (0, 1)}
    validate({0: twice[0]})
    with pytest.raises(ProgramError, match="worker 0 computes layer 0 for m0 too"):
        validate(twice)


PLAN = Plan.parse(
    "plan generation=0 schedule=1f1b\npipeline 0-1 0:1@w0 1:2@w1\npipeline 2 0:2@w2\n"
)


def test_plan_and_ties_are_compared() -> None:
    found = programs(PLAN, ties=[(0, 1)])
    validate(found, plan=PLAN, ties=[(0, 1)])
    with pytest.raises(ProgramError, match="layers tied"):
        validate(found, ties=[])
    with pytest.raises(ProgramError, match="layers tied"):
        validate(programs(PLAN), ties=[(0, 1)])
    other = Plan.parse(str(PLAN).replace("0-1", "0").replace("pipeline 2", "pipeline 1-2"))
    with pytest.raises(ProgramError, match="in the plan worker 2 computes layer 0"):
        validate(found, plan=other)
    wider = Plan.parse(str(PLAN).replace("0:1@w0 1:2@w1", "0:1@w1 1:2@w0"))
    with pytest.raises(ProgramError, match="worker 0 holds layers 1 only"):
        validate(found, plan=wider)
    with pytest.raises(ProgramError, match="generation"):
        validate(found, plan=replace(PLAN, generation=1))
    with pytest.raises(ProgramError, match="programs of"):
        validate({0: found[0]}, plan=PLAN)


def test_forward_only_refuses_training() -> None:
    validate(validation_programs(PLAN, 2), forward_only=True)
    with pytest.raises(ProgramError, match="forward-only"):
        validate(programs(PLAN), forward_only=True)
    with pytest.raises(ProgramError, match="no backward"):
        validate(validation_programs(PLAN, 2))


def test_errors_survive_pickling() -> None:
    error = ProgramError("worker 3, line 7: no", 3, 7)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.worker, again.line) == (str(error), 3, 7)
