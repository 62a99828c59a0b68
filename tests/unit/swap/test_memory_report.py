"""The report says what was used, moved, waited for and decided; its timeline opens in Perfetto."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ithaca.swap import allocator
from ithaca.swap.plan import Action
from ithaca.swap.report import Report
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import tokens, transformer


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of six steps with a disk, under a budget that they need."""
    allocator.install()
    model = transformer()
    held = held_bytes() + sum(p.nbytes for p in model.parameters())
    folder = tmp_path_factory.mktemp("scratch")
    with MemorySession(model, held + (3 << 20), folder=folder, limit="1GiB") as memory:
        for step in range(6):
            model.zero_grad()
            model(tokens(step)).square().mean().backward()
            memory.step()
    return memory.report()


def test_the_text_has_every_figure(report: Report) -> None:
    text = str(report)
    for words in ("peak", "6 steps", "moved out", "hidden", "waited for", "computing again"):
        assert words in text
    assert report.peak_bytes <= report.budget_bytes
    # Three sums of nanoseconds, each rounded by itself.
    assert report.hidden_s + report.exposed_s >= report.copy_s - 1e-9 > 0


def test_every_decision_has_its_tensor_size_and_reason(report: Report) -> None:
    lines = report.decisions(most=10**6).splitlines()
    (plan,) = report.plans.values()
    assert len(lines) == 1 + len(plan.decisions)
    for decision in plan.decisions:
        line = next(line for line in lines if line.endswith(str(decision.identity)))
        assert decision.action.value in line
        assert decision.reason in line
    assert "smaller ones" in report.decisions(most=3)


def test_the_timeline_is_the_plan(report: Report) -> None:
    (plan,) = report.plans.values()
    (trace,) = report.traces.values()
    (made,) = report.timeline().values()
    events = json.loads(json.dumps(made))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert all(event["dur"] >= 0 for event in slices)
    away = {event["name"]: event for event in slices if event["tid"] >= 10}
    swapped = {d for d in plan.decisions if d.action is not Action.KEEP}
    assert {str(decision.identity) for decision in swapped} == set(away)
    assert all(away[str(d.identity)]["args"]["bytes"] == d.nbytes for d in swapped)
    by_track: dict[int, float] = {}
    for event in sorted(slices, key=lambda event: event["ts"]):
        assert event["ts"] >= by_track.get(event["tid"], 0.0) - 0.01
        by_track[event["tid"]] = event["ts"] + event["dur"]
    held = [event["args"]["held"] for event in events if event["ph"] == "C"]
    assert len(held) == len(trace.points)
    assert max(held) <= plan.budget_bytes


def test_without_a_folder_nothing_is_moved(tmp_path: Path) -> None:
    model = transformer(2)
    with MemorySession(model, "1GiB") as memory:
        model(tokens(0)).sum().backward()
        memory.step()
    report = memory.report()
    assert report.copy_s == 0
    assert "moved out 0 B" in str(report)
