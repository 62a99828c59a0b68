"""Plans: text form, look-ups, and every way in which a plan can be inconsistent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.span import Span
from tests.helpers.plans import plans

TEXT = """\
plan generation=3 schedule=1f1b
pipeline 0-3 0:2@w0 2:4@w1 4:6@w2
pipeline 4-7 0:3@w3 3:6@w4
route m1 0:2@w3
"""


@given(plans())
@settings(deadline=None)
def test_text_round_trips(plan: Plan) -> None:
    assert Plan.parse(str(plan)) == plan


@given(plans())
@settings(deadline=None)
def test_lookups_agree(plan: Plan) -> None:
    for layer in range(plan.num_layers):
        holders = plan.holders(layer)
        shadows = {shadow.worker for shadow in plan.shadows if layer in shadow.layers}
        assert all(layer in plan.held(worker) for worker in holders)
        assert len(holders) == len(plan.pipelines) + len(shadows)
        for micro_batch in range(plan.num_micro_batches):
            assert plan.worker_of(layer, micro_batch) in holders


def test_parse_reads_what_the_text_says() -> None:
    plan = Plan.parse(TEXT)
    assert (plan.generation, plan.schedule) == (3, Schedule.ONE_F_ONE_B)
    assert (plan.num_layers, plan.num_micro_batches) == (6, 8)
    assert plan.workers == (0, 1, 2, 3, 4)
    assert plan.layers_of(4) == Span(3, 6)
    assert plan.holders(2) == (1, 3)
    assert plan.worker_of(0, 1) == 3
    assert plan.worker_of(2, 1) == 1
    assert str(plan) == TEXT


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        (2, "pipeline 0-3 0:2@w0 2:4@1 4:6@w2"),
        (2, "pipeline 0-3 0:2@w0 2:4@w1 4-6@w2"),
        (2, "pipeline 3-0x 0:2@w0"),
        (3, "pipelines 4-7 0:3@w3 3:6@w4"),
        (4, "route 1 0:2@w3"),
        (4, "route mx 0:2@w3"),
        (4, "route m1 0:2"),
        (1, "plan generation"),
    ],
)
def test_parse_names_the_line(line: int, bad: str) -> None:
    lines = TEXT.splitlines()
    lines[line - 1] = bad
    with pytest.raises(ValueError, match=rf"line {line} of the plan"):
        Plan.parse("\n".join(lines))


@pytest.mark.parametrize("head", ["", "plan generation=0", "plan generation=0 schedule=fast"])
def test_parse_refuses_a_wrong_head(head: str) -> None:
    with pytest.raises(ValueError, match=r"generation|schedule|Schedule"):
        Plan.parse("\n".join([head, *TEXT.splitlines()[1:]]))


def _stages(*spans: tuple[int, int, int]) -> tuple[Stage, ...]:
    return tuple(Stage(Span(first, last), worker) for first, last, worker in spans)


ONE = Pipeline(_stages((0, 2, 0), (2, 4, 1)), (0, 1))


@pytest.mark.parametrize(
    ("pipelines", "routes", "message"),
    [
        ((), (), "at least one pipeline"),
        ((Pipeline((), (0,)),), (), "at least one pipeline"),
        ((Pipeline(_stages((1, 2, 0)), (0,)),), (), "must hold layers"),
        ((Pipeline(_stages((0, 2, 0), (3, 4, 1)), (0,)),), (), "must hold layers"),
        ((ONE, Pipeline(_stages((0, 3, 2)), (2,))), (), "must hold layers"),
        ((Pipeline(_stages((0, 2, 0), (2, 4, 0)), (0,)),), (), "one stage of one pipeline"),
        ((Pipeline(ONE.stages, ()),), (), "micro-batches must be"),
        ((Pipeline(ONE.stages, (0, 2)),), (), "micro-batches must be"),
        ((Pipeline(ONE.stages, (0, 0)),), (), "micro-batches must be"),
        ((ONE,), (Route(0, Span(1, 3), 0),), "does not name a stage"),
        ((ONE,), (Route(5, Span(0, 2), 0),), "does not name a stage"),
        ((ONE,), (Route(0, Span(0, 2), 7),), "outside the plan"),
        ((ONE,), (Route(0, Span(0, 2), 1),), "holds layers 2-3 only"),
        ((ONE,), (Route(0, Span(0, 2), 0), Route(0, Span(0, 2), 0)), "two routes"),
    ],
)
def test_inconsistent_plans_are_refused(
    pipelines: tuple[Pipeline, ...], routes: tuple[Route, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(pipelines, routes=routes)


@pytest.mark.parametrize(
    ("shadows", "message"),
    [
        (_stages((1, 3, 0)), "does not hold already"),
        (_stages((0, 3, 5), (2, 4, 5)), "does not hold already"),
        (_stages((2, 5, 0)), "layers of 0 to 3"),
    ],
)
def test_impossible_shadows_are_refused(shadows: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan((ONE,), shadows=shadows)


def test_shadows_hold_but_have_no_stage() -> None:
    plan = Plan((ONE,), shadows=_stages((2, 4, 0), (0, 1, 7)))
    assert plan.workers == (0, 1, 7)
    assert [plan.holders(layer) for layer in range(4)] == [(0, 7), (0,), (0, 1), (0, 1)]
    assert plan.held(0) == (0, 1, 2, 3)
    assert Plan.parse(str(plan)) == plan
    with pytest.raises(KeyError, match="worker 7 has no stage"):
        plan.layers_of(7)


def test_unknown_worker_and_micro_batch() -> None:
    plan = Plan((ONE,))
    with pytest.raises(KeyError, match="worker 9"):
        plan.layers_of(9)
    with pytest.raises(KeyError, match="micro-batch 9"):
        plan.worker_of(0, 9)
