"""Plans become Programs: what stands in them, and that thousands of random ones are valid."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.program import Action, Cargo, Compute, Op, Program, Reduce, Tie, Transfer
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.span import Span
from ithaca.planner.timetable import Part, Timetable
from ithaca.planner.validate import ProgramError, validate
from tests.helpers.plans import Case, cases, plans, random_case


def of_case(case: Case) -> dict[int, Program]:
    """The training step of ``case``."""
    return programs(case.plan, case.plan.num_layers, case.ties, case.split)


PLAN = Plan.parse(
    """\
plan generation=2 schedule=1f1b
pipeline 0-1 0:2@w0 2:3@w1
pipeline 2 0:1@w2 1:3@w3
"""
)


def test_program_of_a_small_plan() -> None:
    found = programs(PLAN, 3, ties=[(2, 0)])
    assert (
        str(found[0])
        == """\
program worker=0 generation=2 layers=3 micro_batches=3
F 0:2 m0
SEND a2 m0 > w1
F 0:2 m1
SEND a2 m1 > w1
RECV g2 m0 < w1
B 0:2 m0
RECV g2 m1 < w1
B 0:2 m1
REDUCE 1:2 w0:0-1 w3:2
REDUCE 0:1 w0:0-1 w2:2
TIE 0~2 w0,w2 ~ w1,w3
COMMIT
STEP 0:2
"""
    )
    assert [str(a) for a in found[3]][-4:] == [
        "REDUCE 1:2 w0:0-1 w3:2",
        "TIE 0~2 w0,w2 ~ w1,w3",
        "COMMIT",
        "STEP 1:3",
    ]


@pytest.mark.parametrize("seed", range(0, 900, 150))
def test_random_plans_give_valid_programs(seed: int) -> None:
    for offset in range(500):
        case = random_case(Random(seed + offset))
        validate(of_case(case), plan=case.plan, ties=case.ties)


@given(plans(), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_random_plans_give_valid_validation_programs(plan: Plan, micro_batches: int) -> None:
    found = validation_programs(plan, micro_batches)
    validate(found, plan=plan, forward_only=True)
    assert {program.num_micro_batches for program in found.values()} == {micro_batches}


@given(cases())
@settings(deadline=None)
def test_programs_are_a_pure_function_of_the_plan(case: Case) -> None:
    assert of_case(case) == of_case(case)


def test_a_lost_message_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Timetable._hand

    def lossy(self: Timetable, cargo: Cargo, cut: int, part: Part, *ends: int) -> None:
        if part.micro_batch != 1:
            whole(self, cargo, cut, part, *ends)

    monkeypatch.setattr(Timetable, "_hand", lossy)
    with pytest.raises(ProgramError, match="g2 m1 is not here"):
        validate(programs(PLAN, 3))


def test_routes_move_compute_and_messages() -> None:
    stages = (Stage(Span(0, 2), 0), Stage(Span(2, 4), 1))
    plan = Plan(
        (Pipeline(stages, (0, 1)), Pipeline((Stage(Span(0, 4), 2),), (2,))),
        routes=(Route(1, Span(2, 4), 2),),
    )
    found = programs(plan)
    validate(found, plan=plan, ties=())
    assert Compute(Op.F, Span(2, 4), 1) in found[2].actions
    assert "SEND a2 m1 > w2" in str(found[0])
    assert "REDUCE 2:4 w1:0 w2:1-2" in str(found[1])
    assert "REDUCE 0:2 w0:0-1 w2:2" in str(found[2])


def test_whole_detour_needs_no_messages() -> None:
    stages = (Stage(Span(0, 2), 0), Stage(Span(2, 4), 1))
    routes = (Route(0, Span(0, 2), 2), Route(0, Span(2, 4), 2))
    plan = Plan((Pipeline(stages, (0,)), Pipeline((Stage(Span(0, 4), 2),), ())), routes=routes)
    found = programs(plan)
    validate(found, plan=plan)
    assert not any(isinstance(a, Transfer) for program in found.values() for a in program)
    assert [str(a) for a in found[0]] == ["REDUCE 0:2 w0:- w2:0", "COMMIT", "STEP 0:2"]


def test_crossing_detours_do_not_stall() -> None:
    stages = [(Stage(Span(0, 1), 2 * k), Stage(Span(1, 2), 2 * k + 1)) for k in range(2)]
    whole = [Pipeline((Stage(Span(0, 2), worker),), ()) for worker in (4, 5)]
    routes = []
    for micro_batch in range(8):
        there, back = (4, 5) if micro_batch < 4 else (5, 4)
        routes += [Route(micro_batch, Span(0, 1), there), Route(micro_batch, Span(1, 2), back)]
    plan = Plan(
        (Pipeline(stages[0], (0, 1, 2, 3)), Pipeline(stages[1], (4, 5, 6, 7)), *whole),
        routes=tuple(routes),
    )
    for schedule in Schedule:
        crossing = Plan(plan.pipelines, schedule, routes=plan.routes)
        validate(programs(crossing), plan=crossing)


def test_only_a_stage_whose_layers_all_split_gets_i_and_w() -> None:
    stages = (Stage(Span(0, 2), 0), Stage(Span(2, 4), 1))
    plan = Plan((Pipeline(stages, (0, 1)),), Schedule.ONE_F_ONE_B_SPLIT)
    found = programs(plan, split=[True, False, True, True])
    assert _ops(found[0]) == {Op.F, Op.B}
    assert _ops(found[1]) == {Op.F, Op.I, Op.W}
    layers = [Layer(str(k), split=k < 2) for k in range(4)]
    assert _ops(programs(plan, layers)[0]) == {Op.F, Op.I, Op.W}
    assert _ops(programs(plan, layers)[1]) == {Op.F, Op.B}
    unsplit = Plan(plan.pipelines, Schedule.ONE_F_ONE_B)
    assert _ops(programs(unsplit, layers)[0]) == {Op.F, Op.B}


def test_collectives_stand_in_one_order() -> None:
    for seed in range(200):
        case = random_case(Random(seed))
        follows: dict[Action, set[Action]] = {}
        for program in of_case(case).values():
            found = [action for action in program if isinstance(action, Reduce | Tie)]
            for index, action in enumerate(found):
                follows.setdefault(action, set()).update(found[index + 1 :])
        for one, later in follows.items():
            assert all(one not in follows[other] for other in later)


def test_reductions_are_cut_at_every_border_only() -> None:
    found = programs(PLAN)
    spans = {str(a.layers) for p in found.values() for a in p if isinstance(a, Reduce)}
    assert spans == {"0:1", "1:2", "2:3"}


def test_wide_layouts_are_valid() -> None:
    stages = tuple(Stage(Span(2 * k, 2 * k + 2), k) for k in range(32))
    for schedule in Schedule:
        plan = Plan((Pipeline(stages, tuple(range(64))),), schedule)
        validate(programs(plan), plan=plan)


@pytest.mark.parametrize("tie", [(0, 0), (0, 3), (-1, 1)])
def test_ties_must_name_two_layers(tie: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a tie names two layers of 0 to 2"):
        programs(PLAN, ties=[tie])


def test_inputs_of_another_workload_are_refused() -> None:
    with pytest.raises(ValueError, match="the plan has 3 layers, but was given 4 layers"):
        programs(PLAN, 4)
    with pytest.raises(ValueError, match="2 values of split"):
        programs(PLAN, split=[True, True])
    with pytest.raises(ValueError, match="tied twice"):
        programs(PLAN, ties=[(0, 1), (1, 0)])


def test_validation_is_dealt_over_all_pipelines() -> None:
    found = validation_programs(PLAN, 5)
    computed = {w: {a.micro_batch for a in p if isinstance(a, Compute)} for w, p in found.items()}
    assert computed == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {3, 4}, 3: {3, 4}}
    with pytest.raises(ValueError, match="at least 1 micro-batch, not 0"):
        validation_programs(PLAN, 0)


def _ops(program: Program) -> set[Op]:
    return {action.op for action in program if isinstance(action, Compute)}
