"""What a log tells: attempts, repeated steps, and how it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.runtime.events import Event, PlanChosen, Showcase, StateHashed, StepDone, Timeline
from ithaca.runtime.report import story as story_module
from ithaca.runtime.report.story import tell
from tests.helpers.fake_run import FakeRun, resumed


def of_kind(events: list[Event], cls: type[StepDone]) -> list[StepDone]:
    return [event for event in events if isinstance(event, cls)]


def test_a_plain_run() -> None:
    events = list(FakeRun(steps=60).events())
    story = tell(events)
    assert list(story.steps) == list(range(1, 61))
    assert list(story.validations) == [0, 50, 60]
    assert (story.committed, story.repeated, len(story.starts)) == (60, 0, 1)
    assert story.worked_s == pytest.approx(events[-1].time_s - events[0].time_s)
    assert story.end is not None
    assert story.state_hash == story.end.state_hash


def test_after_a_resume_the_last_record_of_a_step_wins() -> None:
    events = resumed(FakeRun(steps=80), 71, 50)
    story = tell(events)
    newest = {done.step: done for done in of_kind(events, StepDone)}
    assert story.steps == newest
    assert (story.repeated, len(story.starts), story.committed) == (21, 2, 80)
    assert set(story.timelines) == {1, 21, 41, 61}
    assert story.timelines[61][0].time_s > events[0].time_s + 3000


def test_a_resume_that_stopped_early_does_not_show_what_was_given_up() -> None:
    events = resumed(FakeRun(steps=80), 71, 50)
    again = next(i for i, e in enumerate(events) if i and e.kind == "run_started")
    story = tell(events[: again + 8])
    assert story.committed == 50 + len(of_kind(events[again : again + 8], StepDone)) < 71
    assert max(story.timelines) < 51


def test_that_is_noticed_when_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "_give_up", lambda story, kept: None)
    events = resumed(FakeRun(steps=80), 71, 50)
    again = next(i for i, e in enumerate(events) if i and e.kind == "run_started")
    assert tell(events[: again + 8]).committed == 71


def test_time_between_attempts_is_not_counted() -> None:
    story = tell(resumed(FakeRun(steps=60), 55, 50))
    assert story.worked_s < 60


def test_time_after_the_end_is_not_counted() -> None:
    events = list(FakeRun(steps=5).events())
    late = Showcase(time_s=events[-1].time_s + 1000, text="later")
    story = tell([*events, late])
    assert story.worked_s == tell(events).worked_s
    assert story.showcase == "later"


def test_another_plan_is_not_compared_with_steps_of_the_one_before() -> None:
    run = FakeRun(steps=60, first=50)
    first = list(replace(run, first=0, stop=55, outcome=None).events())
    second = list(run.events())
    begun = [e for e in second if not isinstance(e, StepDone | Timeline)][:6]
    story = tell([*first, *begun])
    assert story.timelines
    assert story.typical_step() is None
    assert story.median_step_s() is None
    assert tell(first).typical_step() is not None


def test_a_resume_without_steps_stands_at_its_checkpoint() -> None:
    story = tell(list(FakeRun(steps=60, first=50).events())[:1])
    assert story.committed == 50
    assert story.end is None


def test_the_median_leaves_out_the_first_step_of_an_attempt() -> None:
    events = [
        replace(e, seconds=100.0 if e.step in (1, 51) else 1.0) if isinstance(e, StepDone) else e
        for e in resumed(FakeRun(steps=54), 51, 50)
    ]
    assert tell(events).median_step_s() == 1.0
    assert tell(events[:1]).median_step_s() is None


def test_the_typical_step_is_of_the_newest_plan() -> None:
    events = list(FakeRun(steps=62).events())
    story = tell(events)
    lengths = {
        step: max(end for line in lines.values() for _, _, end in line.rows)
        for step, lines in story.timelines.items()
    }
    assert story.typical_step() == sorted(lengths, key=lambda step: lengths[step])[1]
    plan = next(e for e in events if isinstance(e, PlanChosen))
    assert tell([*events, replace(plan, generation=1)]).typical_step() is None
    assert tell([]).typical_step() is None


def test_the_newest_hash_counts() -> None:
    events = list(FakeRun(steps=60, stop=55, outcome=None).events())
    assert tell(events).state_hash == tell(events).checkpoints[-1].state_hash
    later = StateHashed(time_s=0.0, step=55, state_hash="abc", layers={})
    assert tell([*events, later]).state_hash == "abc"
    assert tell(events[:3]).state_hash is None


def test_predicted_rows_of_no_worker_are_left_out() -> None:
    plan = next(e for e in FakeRun(steps=1).events() if isinstance(e, PlanChosen))
    odd = replace(plan, predicted={"3": [("F 0:1 m0", 0.0, 1.0)], "nobody": []})
    assert list(tell([odd]).predicted) == [3]
