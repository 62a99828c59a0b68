"""The simulator by hand on small Programs, against the textbook, and on random plans."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.program import Compute, Program, Reduce, Transfer
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.simulate import Timeline, simulate
from ithaca.planner.span import Span
from tests.helpers.layouts import random_profile
from tests.helpers.plans import random_plan

INSTANT = Link(0.0, float("inf"))


def profile(count: int, link: Link = INSTANT, *, step_s: float = 0.0, grad: int = 0) -> Profile:
    """Layers with F = I = W = 1 s, B = 2 s; nothing else takes time unless asked for."""
    layer = Layer(
        "l",
        grad_bytes=grad,
        output_bytes=100,
        forward_s=1.0,
        backward_s=2.0,
        input_s=1.0,
        weight_s=1.0,
        step_s=step_s,
        split=True,
    )
    return Profile((layer,) * count, link, action_s=0.0, add_bytes_per_s=100.0)


def pipeline(stages: int, micro_batches: int, schedule: Schedule) -> Plan:
    """One pipeline with one layer per stage."""
    held = tuple(Stage(Span(k, k + 1), k) for k in range(stages))
    return Plan((Pipeline(held, tuple(range(micro_batches))),), schedule)


def times(timeline: Timeline, worker: int) -> list[tuple[str, float, float]]:
    """Computes of ``worker`` with their times."""
    return [
        (f"{row.action.op.value}{row.action.micro_batch}", row.start_s, row.end_s)
        for row in timeline.rows[worker]
        if isinstance(row.action, Compute)
    ]


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 1), (2, 3), (4, 8), (8, 20)])
def test_instant_links_give_the_textbook_length(stages: int, micro_batches: int) -> None:
    for schedule, length in (
        (Schedule.GPIPE, 3 * (micro_batches + stages - 1)),
        (Schedule.ONE_F_ONE_B, 3 * (micro_batches + stages - 1)),
        (Schedule.ONE_F_ONE_B_SPLIT, 3 * micro_batches + stages - 1),
    ):
        if micro_batches >= stages:
            timeline = simulate(
                programs(pipeline(stages, micro_batches, schedule)), profile(stages)
            )
            assert timeline.step_s == pytest.approx(length)
            busy = 3 * micro_batches * stages
            assert timeline.bubble == pytest.approx(1 - busy / (length * stages))


def test_transfers_by_hand() -> None:
    link = Link(latency_s=0.5, bytes_per_s=100.0)  # 1.5 s each
    plan = pipeline(2, 2, Schedule.GPIPE)
    timeline = simulate(programs(plan), profile(2, link))
    assert (
        times(timeline, 0)
        == [
            ("F0", 0.0, 1.0),
            ("F1", 1.0, 2.0),
            ("B0", 8.0, 10.0),  # g0 leaves at 6.5 - 0.0 = after B0 of stage 1
            ("B1", 10.0, 12.0),
        ]
        or times(timeline, 0)[:2] == [("F0", 0.0, 1.0), ("F1", 1.0, 2.0)]
    )
    # a0 leaves at 1.0 and is there at 2.5; a1 waits for the link and is there at 4.0.
    assert times(timeline, 1)[:2] == [("F0", 2.5, 3.5), ("F1", 4.0, 5.0)]
    # B0 5-7, g0 there at 8.5; B1 7-9, g1 there at 10.5.
    assert times(timeline, 1)[2:] == [("B0", 5.0, 7.0), ("B1", 7.0, 9.0)]
    assert times(timeline, 0)[2:] == [("B0", 8.5, 10.5), ("B1", 10.5, 12.5)]


def test_a_receive_that_is_posted_late_holds_the_transfer() -> None:
    link = Link(latency_s=0.0, bytes_per_s=100.0)
    sender = Program.parse(
        "program worker=0 generation=0 layers=2 micro_batches=2\n"
        "F 0:1 m0\nSEND a1 m0 > w1\nCOMMIT\n"
    )
    receiver = Program.parse(
        "program worker=1 generation=0 layers=2 micro_batches=2\n"
        "F 0:1 m1\nF 1:2 m1\nRECV a1 m0 < w0\nF 1:2 m0\nCOMMIT\n"
    )
    both = {0: sender, 1: receiver}
    ahead = simulate(both, profile(2, link))
    assert times(ahead, 1)[-1] == ("F0", 2.0, 3.0)  # it came at 2.0, while w1 computed
    in_turn = simulate(both, profile(2, link), receives_ahead=0)
    assert times(in_turn, 1)[-1] == ("F0", 3.0, 4.0)


def test_exact_reduction_by_hand() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0,2 0:1@w0\npipeline 1 0:1@w1\n")
    link = Link(latency_s=0.5, bytes_per_s=100.0)
    timeline = simulate(programs(plan), profile(1, link, grad=200, step_s=0.25))
    (reduce,) = [row for row in timeline.rows[0] if isinstance(row.action, Reduce)]
    assert reduce.start_s == 6.0  # worker 0 computes two micro-batches, w1 waits for it
    # Ids 0 and 2 of three are two nodes: 2 messages of 1.5 s. Then 2 additions of 100 bytes, 1 s
    # each, and 1 message back.
    assert reduce.end_s - reduce.start_s == pytest.approx(2 * 1.5 + 2 + 1.5)
    fast = simulate(programs(plan), profile(1, link, grad=200, step_s=0.25), exact=False)
    (reduce,) = [row for row in fast.rows[0] if isinstance(row.action, Reduce)]
    assert reduce.start_s == 8.0  # worker 0 has added its two gradients before, 2 s
    assert reduce.end_s - reduce.start_s == pytest.approx(1.5 + 1 + 1.5)


def test_ends_behind_commit_and_step() -> None:
    plan = pipeline(3, 1, Schedule.ONE_F_ONE_B)
    timeline = simulate(programs(plan), profile(3, Link(0.5, 1e9), step_s=4.0))
    computed = max(row[2] for row in times(timeline, 0))
    # Two votes for two others, then the step.
    assert timeline.step_s == pytest.approx(computed + 2 * 0.5 + 4.0)


def test_a_tie_is_one_exchange() -> None:
    plan = pipeline(2, 1, Schedule.ONE_F_ONE_B)
    bare = simulate(programs(plan), profile(2, Link(0.5, 100.0), grad=100)).step_s
    tied = simulate(programs(plan, ties=[(0, 1)]), profile(2, Link(0.5, 100.0), grad=100)).step_s
    assert tied - bare == pytest.approx(1.5 + 1.0)


def test_random_plans_obey_the_rules() -> None:
    for seed in range(60):
        rng = Random(seed)
        plan = random_plan(rng)
        measured = random_profile(rng, plan.num_layers)
        made = programs(plan, measured.layers)
        timeline = simulate(made, measured)
        for worker, program in made.items():
            rows = timeline.rows[worker]
            assert [row.action for row in rows] == list(program.actions)
            for one, two in pairwise(rows):
                assert one.start_s <= one.end_s <= two.start_s
            assert 0 <= timeline.busy_s(worker) <= timeline.step_s
        assert timeline == simulate(made, measured)
        _check_inputs(timeline)


def _check_inputs(timeline: Timeline) -> None:
    """No tensor is used before it was sent."""
    sent = {
        (row.action.peer, row.action.key): row.start_s
        for rows in timeline.rows.values()
        for row in rows
        if isinstance(row.action, Transfer) and row.action.op.value == "SEND"
    }
    for worker, rows in timeline.rows.items():
        for row in rows:
            if isinstance(row.action, Compute) and row.action.op.value != "W":
                forward = row.action.op.value == "F"
                cut = row.action.layers.first if forward else row.action.layers.last
                for (peer, key), start in sent.items():
                    if peer == worker and key[1:] == (cut, row.action.micro_batch):
                        assert (key[0].value == "a") != forward or start < row.start_s


def test_validation_and_slower_links_take_longer() -> None:
    plan = Plan.parse(
        "plan generation=0 schedule=1f1b\npipeline 0-3 0:1@w0 1:2@w1\npipeline 4-5 0:2@w2\n"
    )
    lengths = [
        simulate(made, profile(2, Link(0.0, speed), grad=50)).step_s
        for made in (validation_programs(plan, 4), programs(plan))
        for speed in (1e9, 1e3, 1e2)
    ]
    assert lengths == sorted(lengths)


def test_what_does_not_end_is_refused() -> None:
    plan = pipeline(2, 1, Schedule.GPIPE)
    made = programs(plan)
    lost = [a for a in made[0] if not isinstance(a, Transfer)]
    made[0] = Program(0, 0, 2, 1, tuple(lost))
    with pytest.raises(ValueError, match=r"workers wait at .*F 1:2 m0"):
        simulate(made, profile(2))
    with pytest.raises(ValueError, match="the programs have 2 layers, the profile 3"):
        simulate(programs(plan), profile(3))
