"""From the layout that a job asks for to a plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Profile
from ithaca.runtime.config.job import Job
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.layout import make_plan


def profile(*seconds: float) -> Profile:
    """Layers whose forward takes ``seconds``, backward twice as long."""
    return Profile(
        tuple(
            Layer(f"l{i}", 100, 100, 200, 50, 10, forward_s=s, backward_s=2 * s)
            for i, s in enumerate(seconds)
        )
    )


def job(**layout: Any) -> Job:  # noqa: ANN401 - whatever a file may hold
    """A job with this layout and five workers if the layout does not say."""
    cluster = {} if "stages" in layout else {"workers": 5}
    workload = {"use": "toy"}
    return Job.model_validate(
        {"name": "t", "workload": workload, "steps": 1, "layout": layout, "cluster": cluster}
    )


def shape(plan: Plan) -> list[list[int]]:
    """Layers of each stage of each pipeline."""
    return [[len(stage.layers) for stage in pipeline.stages] for pipeline in plan.pipelines]


def test_a_given_split_is_kept() -> None:
    split = [[1, 2, 1], [3, 1]]
    plan = make_plan(
        job(pipelines=2, stages=[3, 2], split=split, schedule="gpipe"), profile(1, 1, 1, 1)
    )
    assert shape(plan) == split
    assert plan.workers == (0, 1, 2, 3, 4)
    assert plan.schedule is Schedule.GPIPE
    assert plan.generation == 0


def test_an_automatic_split_balances_the_cost() -> None:
    plan = make_plan(job(pipelines=1, stages=2, micro_batches=4), profile(5, 1, 1, 1, 1, 1))
    assert shape(plan) == [[1, 5]]


def test_equal_pipelines_get_equal_blocks() -> None:
    plan = make_plan(job(pipelines=4, stages=1, micro_batches=8), profile(1, 1))
    blocks = [pipeline.micro_batches for pipeline in plan.pipelines]
    assert blocks == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_a_faster_pipeline_gets_more() -> None:
    plan = make_plan(job(pipelines=2, stages=[3, 1], micro_batches=16), profile(1, 1, 1))
    longer, shorter = (len(pipeline.micro_batches) for pipeline in plan.pipelines)
    assert longer > shorter


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_possible_layout_has_a_plan(data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, 6))
    stages = data.draw(st.lists(st.integers(1, layers), min_size=1, max_size=4))
    micro_batches = data.draw(st.integers(len(stages), 20))
    costs = data.draw(st.lists(st.floats(1e-4, 1), min_size=layers, max_size=layers))
    asked = job(pipelines=len(stages), stages=stages, micro_batches=micro_batches)
    plan = make_plan(asked, profile(*costs))
    assert [len(pipeline.stages) for pipeline in plan.pipelines] == stages
    assert plan.num_micro_batches == micro_batches
    assert all(pipeline.micro_batches for pipeline in plan.pipelines)
    for pipeline in plan.pipelines:
        ids = pipeline.micro_batches
        assert ids == tuple(range(ids[0], ids[0] + len(ids)))


def test_a_free_layout_is_searched() -> None:
    plan = make_plan(job(micro_batches=8), profile(1, 1, 1, 1))
    assert 1 <= len(plan.workers) <= 5
    other = make_plan(job(pipelines=1, stages=4), profile(1, 1, 1, 1), num_workers=2)
    assert 1 <= len(other.workers) <= 2


def test_very_many_pipelines() -> None:
    plan = make_plan(job(pipelines=1000, stages=1, micro_batches=1500), profile(1, 1))
    assert len(plan.workers) == 1000
    assert plan.num_micro_batches == 1500


def test_a_search_that_would_take_too_long_is_refused() -> None:
    with pytest.raises(BadValue, match=r"give layout\.pipelines"):
        make_plan(job(micro_batches=20_000), profile(1, 1), num_workers=20_000)


def test_a_thousand_workers_are_searched_for() -> None:
    plan = make_plan(job(micro_batches=1000), profile(1, 1, 1), num_workers=1000)
    assert 900 < len(plan.workers) <= 1000


@pytest.mark.parametrize(
    ("layout", "key", "about"),
    [
        ({"pipelines": 1, "stages": 5}, "layout.stages", "at most 4 stages"),
        ({"pipelines": 1, "stages": 2, "split": [[2, 3]]}, "layout.split.0", "add up to 4"),
        ({"memory": 1}, "layout.memory", "too little"),
    ],
)
def test_impossible_layouts_name_the_key(layout: dict[str, Any], key: str, about: str) -> None:
    with pytest.raises(BadValue, match=about) as caught:
        make_plan(job(**layout), profile(1, 1, 1, 1))
    assert caught.value.key == key
