"""The page's section on failures: everything is on it, nothing of it can do harm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.recovery.timeline import account
from ithaca.runtime.events import Event, FailureNoticed, FaultInjected, Recovered
from ithaca.runtime.report import recovery
from ithaca.runtime.report.page import build_page
from ithaca.runtime.report.recovery import View, headline, records, view
from ithaca.runtime.report.story import tell
from tests.helpers.fake_recovery import PHASES, crash, crashed
from tests.helpers.fake_run import FakeRun
from tests.helpers.page_oracle import Page, reworded

HOSTILE = "</pre></style><script>alert(1)</script>\"'&amp;{{ 7*7 }}"


def seen(events: list[Event]) -> View:
    found = view(tell(events))
    assert found is not None
    return found


def test_everything_is_on_the_page() -> None:
    source = build_page(crashed(FakeRun(steps=80), 60))
    page = Page(source)
    assert page.faults == []
    text = " ".join(page.text.split())
    for part in (
        "Failures, and what they cost", "crash of worker 2", "rank 2, node 10.0.0.2, in step 60",
        "B 0:4 m5", "its stream of orders broke", "crash w2 at step 60 before B m5", "reroute",
        "detect 12 ms", "wake 31 ms", "first step 128 ms", "noticed after 12 ms", "pause 84 ms",
        "2 micro-batches", "0 samples", "step predicted 310 ms", "step measured",
        "41 min expected", "one pipeline of 3 stages", "no layer is lost", "waiting in REDUCE",
        "worker 2 on 10.0.0.2 left: crash", "recovered by reroute in 262 ms",
    ):  # fmt: skip
        assert part in text, part
    assert text.index("Failures, and what they cost") < text.index("Loss")
    assert '<rect class="detect"' in source


def test_a_run_without_failures_has_no_such_section() -> None:
    assert view(tell(FakeRun(steps=5).events())) is None
    assert "what they cost" not in build_page(FakeRun(steps=5).events())


def test_phases_are_to_scale_and_fit() -> None:
    found = seen(crashed(FakeRun(steps=80), 30, 60))
    assert len(found.rows) == 2
    for row in found.rows:
        assert [part.phase for part in row.parts] == [name for name, s in PHASES.items() if s]
        assert row.parts[-1].left + row.parts[-1].width <= 1000.01
        widths = {part.phase: part.width for part in row.parts}
        assert widths["first_step"] == pytest.approx(1000 * 0.128 / sum(PHASES.values()))
        for left, right in zip(row.parts, row.parts[1:], strict=False):
            assert right.left == pytest.approx(left.left + left.width, abs=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300, 5e-324])
def test_odd_numbers_make_no_odd_page(value: float) -> None:
    events = [
        replace(e, phases={**PHASES, "wake": value, "new": 0.1}, pause_s=value)
        if isinstance(e, Recovered)
        else e
        for e in crashed(FakeRun(steps=40), 20)
    ]
    source = build_page(events)
    assert Page(source).faults == []
    for bar in source.split('<svg class="phases"')[1].split("</svg>")[0].split("<rect")[1:]:
        assert "nan" not in bar.split("<title>")[0]
        assert "inf" not in bar.split("<title>")[0]


def test_a_run_that_did_not_recover_says_so() -> None:
    whole = crashed(FakeRun(steps=40), 20)
    events = [e for e in whole if not isinstance(e, Recovered)]
    (row,) = seen(events).rows
    assert (row.answer, row.look, row.parts) == ("not recovered", "bad", ())
    assert "not recovered" in build_page(events)


def test_a_fault_without_a_recovery_is_still_shown() -> None:
    fault = FaultInjected(
        time_s=0.0, fault="disk-full w0 at step 2 times 1", worker=0, step=2, action="save"
    )
    page = build_page([*FakeRun(steps=3).events(), fault])
    assert "disk-full w0 at step 2 times 1" in page
    assert "without a recovery" in page


def test_hostile_texts_are_shown_and_not_obeyed() -> None:
    events = [
        reworded(event, lambda text: text + HOSTILE) for event in crashed(FakeRun(steps=9), 5)
    ]
    page = Page(build_page(events))
    assert page.faults == []
    assert page.text.count("<script>alert(1)") > 10


def test_many_recoveries_are_counted_and_not_drawn() -> None:
    events = [e for n in range(100) for e in crash(100.0 * n, n + 1)]
    found = seen(events)
    assert (len(found.rows), found.older) == (60, 40)
    assert len(build_page(events)) < 600_000


def test_the_headline_counts() -> None:
    told = account(records(crashed(FakeRun(steps=80), 30, 60)))
    assert headline(told) == "2 of 2 failures survived, 4 micro-batches done again, 0 samples lost"


def test_the_section_goes_when_failures_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    events = crashed(FakeRun(steps=40), 20)
    monkeypatch.setattr(recovery, "records", lambda _: [])
    assert view(tell(events)) is None
    assert any(isinstance(event, FailureNoticed) for event in events)
