"""The report page: complete, well-formed, and unable to do anything but be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import Environment

from ithaca.runtime.events import Event, RunEnded, StepDone, Timeline, Warned, WorkerFailed
from ithaca.runtime.report import page
from ithaca.runtime.report.page import build_page, write_page
from tests.helpers.fake_run import TRACEBACK, FakeRun, resumed
from tests.helpers.page_oracle import Page, reworded

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\x00{{ 7*7 }}"


def squeezed(text: str) -> str:
    return " ".join(text.split())


def sound(events: list[Event]) -> Page:
    seen = Page(build_page(events))
    assert seen.faults == []
    assert all("nan" not in path and "inf" not in path for path in seen.paths)
    return seen


def test_everything_is_on_the_page() -> None:
    events = list(FakeRun().events())
    text = squeezed(sound(events).text)
    for part in (
        "quickstart", "finished", "200 of 200", "1.8675 bits per byte", "from 7.9781",
        "exact numerics", "fp32", "1f1b", "8 micro-batches",
        "2 pipelines × 2 stages",  # noqa: RUF001
        "2023-11-14 22:13:20 UTC", "bytes/s", "Gradient norm", "Learning rate",
        "layers 0–3", "layers 4–7",  # noqa: RUF001
        "worker 0", "worker 3", "reduction", "optimizer",
        "predicted step 202 ms", "median measured", "202 MiB", "209 MiB",
        "worker 1 was 3.1 times slower than usual", "checkpoint after 150 steps", "17.5 MiB",
        "The import statement binds", "2.13.0+cpu", "AMD EPYC 7B13", "3f5a1c0e9b7d2284",
        "pipeline 0-3 0:4@w0 4:8@w1", "RECV a4 m0 < w0", '"warmup": 20', "10.0.0.2",
    ):  # fmt: skip
        assert part in text, part
    ended = events[-1]
    assert isinstance(ended, RunEnded)
    assert ended.state_hash is not None
    assert ended.state_hash in text


def test_both_timelines_are_drawn() -> None:
    source = build_page(FakeRun().events())
    assert source.count('class="lane planned"') == source.count('class="lane measured"') == 4
    for op in ("F", "B", "WAIT", "SEND", "REDUCE", "COMMIT", "STEP"):
        assert f'<rect class="{op}"' in source


def test_a_failure_stands_first_with_its_traceback() -> None:
    text = sound(list(FakeRun(stop=30, outcome="failed").events())).text
    assert "First cause" in text
    assert text.index("First cause") < text.index("Loss")
    assert TRACEBACK.strip() in text
    assert "rank 1, node 10.0.0.1, in step 31" in text


@pytest.mark.parametrize("keep", [0, 1, 2, 6, 7, 8, 9, 12])
def test_a_log_that_stops_early_has_a_page(keep: int) -> None:
    events = list(FakeRun(steps=60).events())[:keep]
    text = sound(events).text
    assert ("no end" if keep else "empty") in text


def test_a_failure_before_the_first_step_has_a_page() -> None:
    events = list(FakeRun(stop=0, outcome="failed").events())
    events = [e for e in events if e.kind in ("run_started", "worker_failed", "run_ended")]
    text = sound(events).text
    assert "failed" in text
    assert "No steps yet." in text


def test_events_without_a_start_have_a_page() -> None:
    assert "a message" in sound([Warned(time_s=0.0, message="a message")]).text
    failure = WorkerFailed(
        time_s=1e20, worker=0, node="n", rank=0, step=0, action="", cause="c", traceback=""
    )
    assert "worker 0 (rank 0, node n) failed" in sound([failure]).text


def test_steps_done_again_after_a_resume_count_once() -> None:
    text = squeezed(sound(resumed(FakeRun(), 77, 50)).text)
    assert "200 of 200 27 done again" in text
    assert "2 attempts" in text
    assert "resumed after 50 steps" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, -1e308, 5e-324, 0.0])
def test_odd_numbers_are_drawn_or_left_out(value: float) -> None:
    events = [
        replace(e, loss=value, norm=value, lr=value) if isinstance(e, StepDone) else e
        for e in FakeRun(steps=45).events()
    ]
    sound(events)
    mixed = [
        replace(e, loss=value) if isinstance(e, StepDone) and e.step % 3 == 0 else e
        for e in FakeRun(steps=45).events()
    ]
    text = sound(mixed).text
    if value != value:
        assert "15 values not finite, not drawn" in text


def test_a_plan_of_another_version_still_has_a_page() -> None:
    events = [reworded(e, lambda text: text.replace("pipeline ", "pipe ")) for e in plain_run()]
    assert "pipe 0-3 0:4@w0" in sound(events).text


def plain_run() -> list[Event]:
    return list(FakeRun(steps=25, stop=21, outcome="failed").events()) + [
        e for e in FakeRun(steps=1).events() if e.kind == "showcase"
    ]


def hostile_run() -> list[Event]:
    return [reworded(event, lambda text: text + HOSTILE) for event in plain_run()]


def test_hostile_texts_are_shown_and_not_obeyed() -> None:
    seen = sound(hostile_run())
    shown = HOSTILE.replace("\x00", "\ufffd")
    for text in ("quickstart", "10.0.0.1", "worker 1 failed", "the job asks", "can't allocate"):
        at = seen.text.index(text)
        assert "<script>alert(1)</script>" in seen.text[at : at + 400]
    assert seen.text.count(shown) > 30
    assert "49" not in seen.text.split(shown)[0][-3:]


def test_the_oracle_sees_a_page_that_does_not_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    naive: Environment = page._environment().overlay(autoescape=False)
    monkeypatch.setattr(page, "_environment", lambda: naive)
    faults = Page(build_page(hostile_run())).faults
    assert "<script> is not allowed" in faults
    assert "<img> is not allowed" in faults


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("</section>", "closes"),
        ("</div>", "closes"),
        ("</html>", "is not closed"),
        ("<!DOCTYPE html>", "doctype"),
    ],
)
def test_the_oracle_sees_a_broken_page(damage: str, fault: str) -> None:
    source = build_page(FakeRun(steps=5).events()).replace(damage, "", 1)
    assert any(fault in found for found in Page(source).faults)


def test_the_oracle_sees_what_comes_from_outside() -> None:
    source = build_page(FakeRun(steps=5).events())
    outside = source.replace("</style>", "body{background:url(a.png)}</style>")
    assert "the style sheet reaches outside" in Page(outside).faults


def test_the_page_is_a_function_of_the_events() -> None:
    assert build_page(FakeRun().events()) == build_page(FakeRun().events())


def test_lone_surrogates_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page([Warned(time_s=0.0, message="a\ud800b")], path)
    assert "a\ufffdb" in path.read_text()
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_a_long_run_stays_small() -> None:
    run = FakeRun(steps=2)
    events = list(run.events())
    step = next(e for e in events if isinstance(e, StepDone))
    line = next(e for e in events if isinstance(e, Timeline))
    many = [replace(step, step=n, loss=5 / n) for n in range(1, 5_000)]
    rows = [("F 0:1 m0", n * 1e-3, n * 1e-3 + 9e-4) for n in range(3_000)]
    source = build_page([*events[:-1], *many, replace(line, rows=rows, step=0)])
    assert len(source) < 600_000
