"""The study of recovery: its truth, its accounts, its baselines, and that nobody looks ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.recovery_study import job, traces
from benchmarks.recovery_study.baselines.odyssey import Odyssey, rerouting_slots
from benchmarks.recovery_study.baselines.oobleck import Oobleck, shrunk
from benchmarks.recovery_study.baselines.ours import Ours, Proposals
from benchmarks.recovery_study.deployment import Count, Deployment, holdings, score
from benchmarks.recovery_study.grid import even, numbered, rerouted, seats_of
from benchmarks.recovery_study.memory import rejected
from benchmarks.recovery_study.run import Answer, Progress, run
from benchmarks.recovery_study.shapes import Shapes, partitions
from benchmarks.recovery_study.systems import SYSTEMS
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World, renamed
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.validate import validate
from tests.helpers.cluster_sample import content, layouts, small_job, write

CARDS = 14


def world() -> World:
    small = small_job()
    return World(small, layouts=layouts(small, 32))


def trace(*changes: Change, duration_s: float = 4000.0) -> Trace:
    return Trace("some", duration_s, frozenset(range(CARDS)), changes)


LATE = Change(3000.0, frozenset({5}))
BUSY = trace(Change(400.0, frozenset({3})), Change(1500.0, frozenset({8}), frozenset({3})), LATE)


# --- the truth ------------------------------------------------------------------------------------


def test_constants_are_those_of_the_measured_layouts() -> None:
    made = job.made(content(), "gpt-1.5b")
    block = made.profile.layers[1]
    assert block.forward_s + block.backward_s == pytest.approx(0.303 * 19.958e-3, rel=0.01)
    assert made.profile.action_s == pytest.approx(2 / 3 * 3.05e-3, rel=0.01)
    assert made.profile.link.bytes_per_s == pytest.approx(0.88e9, rel=0.01)
    assert made.limit_bytes == pytest.approx(15.24 * 2**30, rel=0.01)


def test_steps_that_were_measured_but_not_fitted_are_close() -> None:
    made = job.made(content(), "gpt-1.5b")
    truth, shapes = World(made), Shapes(made)
    errors = []
    for row in [made.rows[1], made.rows[3], made.rows[5], made.rows[9]]:
        lengths = (row.stages,) * row.pipelines
        plan = shapes.plan(lengths, shapes.dealt(lengths, shapes.calibrated_s))
        errors.append(abs(truth.step_s(plan) / row.step_s - 1))
    assert max(errors) < 0.06
    four_by_eight = shapes.plan((8,) * 4, (32,) * 4)
    assert truth.step_s(four_by_eight) == pytest.approx(2.945, rel=0.03)  # published, not fitted


def test_the_memory_model_accepts_every_measured_layout() -> None:
    made = job.made(content(), "gpt-1.5b")
    assert len(made.rows) == 31
    assert rejected(made) == []


def test_a_memory_model_that_keeps_all_activations_is_refused() -> None:
    made = job.made(content(), "gpt-1.5b")
    layers = zip(made.profile.layers, made.activations, strict=True)
    keeping = tuple(replace(layer, activation_bytes=size) for layer, size in layers)
    wrong = replace(made, profile=replace(made.profile, layers=keeping))
    shallow = tuple(row for row in made.rows if row.stages == 6 and row.pipelines == 1)
    assert rejected(replace(wrong, rows=shallow)) == list(shallow) != []


def test_places_do_not_matter_for_the_truth() -> None:
    here = world()
    plan = here.best(CARDS)
    assert plan is not None
    other = renamed(plan, list(range(40, 40 + CARDS)))
    assert here.truth(other) is here.truth(plan)


# --- traces ---------------------------------------------------------------------------------------


def test_traces_of_all_forms_are_read(tmp_path: Path) -> None:
    found = {one.name: one for one in traces.read(write(tmp_path))}
    assert set(found) == {
        "bamboo-p3",
        "bamboo-east1c",
        "parcae-hh",
        "parcae-hl",
        "parcae-lh",
        "parcae-ll",
    }
    p3 = found["bamboo-p3"]
    assert (len(p3.start), p3.duration_s, p3.failures) == (3, 180.0, 1)
    assert [(c.time_s, len(c.lost), len(c.joined)) for c in p3.changes] == [(60, 1, 0), (120, 0, 1)]
    assert found["parcae-hh"].changes == (Change(120.0, frozenset({1})),)
    assert [len(cards) for _, cards in found["bamboo-east1c"].cards()] == [3, 2]


def test_poisson_failures_have_the_mean_that_was_asked_for() -> None:
    one = traces.poisson(600.0, 1, duration_s=400 * 600.0)
    assert one == traces.poisson(600.0, 1, duration_s=400 * 600.0)
    assert one != traces.poisson(600.0, 2, duration_s=400 * 600.0)
    assert one.gap_s == pytest.approx(600.0, rel=0.15)
    there = set(one.start)
    for change in one.changes:
        assert change.lost <= there
        assert not change.joined & (there - change.lost)
        there = (there - change.lost) | change.joined


def test_a_broken_trace_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "traces" / "bamboo" / "p3-trace.csv").write_text("0,gone,node1\n")
    with pytest.raises(ValueError, match="'gone' where add or remove is expected"):
        traces.read(folder)


# --- accounts -------------------------------------------------------------------------------------


def test_steps_pauses_and_losses_are_counted() -> None:
    progress = Progress(checkpoint_s=100.0)
    progress.take(Answer(0.0, 4, Deployment("start", None, 10.0)))
    progress.advance(95.0)
    assert progress.steps == pytest.approx(9.5)
    progress.take(Answer(95.0, 3, Deployment("detour", None, 20.0, pause_s=5.0, redone=0.5)))
    assert progress.steps == pytest.approx(9.25)
    progress.advance(200.0)
    assert progress.steps == pytest.approx(9.25 + 5.0)
    assert progress.count == Count(14, 14)
    progress.advance(260.0)
    progress.take(Answer(260.0, 2, Deployment("back", None, 10.0, 40.0, rolled_back=True)))
    assert progress.steps == 14
    progress.advance(310.0)
    assert progress.steps == pytest.approx(15.0)


def test_a_transition_under_way_is_finished_first() -> None:
    progress = Progress(checkpoint_s=1e9)
    progress.take(Answer(0.0, 4, Deployment("start", None, 10.0, pause_s=50.0)))
    progress.advance(10.0)
    progress.take(Answer(10.0, 3, Deployment("next", None, 10.0, pause_s=50.0)))
    progress.advance(200.0)
    assert progress.steps == pytest.approx(10.0)


# --- baselines ------------------------------------------------------------------------------------


def grid_plan(pipelines: int, stages: int, micro_batches: int) -> Plan:
    made = [
        Pipeline(
            tuple(Stage(Span(k, k + 1), p * stages + k) for k in range(stages)),
            tuple(range(p * micro_batches, (p + 1) * micro_batches)),
        )
        for p in range(pipelines)
    ]
    return Plan(tuple(made))


@pytest.mark.parametrize(("lost", "part"), [({0}, 0.81), ({0, 9, 18, 27}, 0.52)])
def test_equation_13_gives_the_known_figures(lost: set[int], part: float) -> None:
    plan = grid_plan(4, 8, 16)
    slots = 8 + 16 - 1
    assert slots / (slots + rerouting_slots(plan, frozenset(lost))) == pytest.approx(part, abs=0.01)


def test_equation_8_prefers_the_slow_step_without_a_way_when_time_is_short() -> None:
    assert score(1.0, 50.0, 100.0) < score(1.5, 0.0, 100.0)
    assert score(1.0, 50.0, 1000.0) > score(1.5, 0.0, 1000.0)
    assert score(1.0, 50.0, 40.0) == 0.0


def test_oobleck_mends_pipelines_with_the_next_template() -> None:
    assert shrunk((8, 8, 8, 7)) == (8, 8, 8, 7)
    assert shrunk((10, 8, 5)) == (9, 8, 6)  # borrowed from the longest
    assert shrunk((6, 6, 5)) == (11, 6)  # nobody can lend: merged
    assert shrunk((5,)) == ()


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(4, 9))
@settings(max_examples=30, deadline=None)
def test_detours_give_every_card_of_a_stage_as_much(sizes: list[int], micro_batches: int) -> None:
    spans = [Span(k, k + 1) for k in range(len(sizes))]
    plan = rerouted(spans, numbered(sizes), micro_batches)
    assert plan is not None
    validate(programs(plan), plan=plan)
    assert [len(seats) for seats in seats_of(plan)] == sizes
    for stage, seats in enumerate(numbered(sizes)):
        load = [plan.worker_of(stage, mb) for mb in range(micro_batches)]
        done = [load.count(card) for card in seats]
        assert max(done) - min(done) <= 2


def test_a_stage_without_cards_has_no_detour() -> None:
    assert rerouted([Span(0, 1), Span(1, 2)], [(0,), ()], 4) is None
    assert even(31, 8, 4) == (4,) * 7 + (3,)


def test_partitions_use_all_cards_and_keep_to_the_shortest() -> None:
    found = set(partitions(14, 12))
    assert found == {(8, 6), (7, 7)}
    assert set(partitions(5, 12)) == set()


@pytest.mark.parametrize("name", [name for name in SYSTEMS if not name.startswith("fixed")])
def test_every_system_trains_through_failures_and_joins(name: str) -> None:
    here = world()
    progress = SYSTEMS[name](here, BUSY, Proposals())
    compute_s = sum(layer.forward_s + layer.backward_s for layer in here.job.profile.layers)
    perfect_s = here.job.micro_batches * compute_s / CARDS
    assert 0.05 < progress.steps / (BUSY.duration_s / perfect_s) < 1
    for answer in progress.answers:
        plan = answer.deployment.plan
        assert plan is not None
        assert sum(len(p.micro_batches) for p in plan.pipelines) == 8


def test_more_has_to_be_paid_for_a_restart() -> None:
    here = world()
    kept = run(BUSY, Oobleck(here, BUSY, tuned=True)).steps
    restarted = run(BUSY, Oobleck(here, BUSY, tuned=False)).steps
    assert kept > restarted


# --- nobody looks ahead ---------------------------------------------------------------------------


def same_past(make: type[Ours]) -> bool:
    """Whether answers before ``LATE`` are the same whatever comes then."""
    here, told = world(), []
    for known in (BUSY, trace(*BUSY.changes[:-1])):
        make.future = known  # type: ignore[attr-defined]
        progress = run(known, make(here, Proposals()))
        told.append([a for a in progress.answers if a.time_s < LATE.time_s])
    return told[0] == told[1]


class Oracle(Ours):
    """Ours, but it does not bother to change when it knows that another failure will come."""

    future: Trace

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        found = super().respond(now, change, cards, count)
        coming = any(c.time_s > change.time_s for c in self.future.changes)
        return replace(found, pause_s=0.0) if coming else found


def test_ours_does_not_know_what_comes() -> None:
    assert same_past(Ours)


def test_a_policy_that_asks_an_oracle_is_caught() -> None:
    assert not same_past(Oracle)


def test_the_published_policy_is_given_the_mean_gap() -> None:
    here = world()
    assert Odyssey(here, BUSY, tuned=False)._gap_s == pytest.approx(4000.0 / 3)


def test_work_of_lost_cards_alone_is_done_again() -> None:
    here = world()
    progress = run(BUSY, Ours(here, Proposals()))
    parts = [a.deployment.redone for a in progress.answers[1:]]
    assert all(0 <= part <= 1 for part in parts)
    assert mean(parts) < 1


def test_holdings_are_of_those_who_are_there() -> None:
    plan = grid_plan(2, 2, 2)
    assert holdings(plan, frozenset({0, 3})) == {0: frozenset({0}), 3: frozenset({1})}
