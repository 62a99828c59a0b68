"""What the driver shows, line by line."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TextIO

import pytest

from ithaca.runtime import progress as progress_module
from ithaca.runtime.events import RunEnded, RunStarted, StepDone, Warned, WorkerFailed
from ithaca.runtime.progress import LiveProgress, PlainProgress, Progress, progress
from tests.helpers.fake_run import TRACEBACK, FakeRun, resumed

GOLDEN = """\
quickstart: 4 steps, exact numerics, workload lm
  torch 2.13.0+cpu, device cpu (AMD EPYC 7B13), threads 1, data 3f5a1c0e9b7d2284
generation 0, 4 workers on 2 nodes: the job asks for 2 pipelines of 2 stages; 202 ms a step expected
  plan generation=0 schedule=1f1b
  pipeline 0-3 0:4@w0 4:8@w1
  pipeline 4-7 0:4@w2 4:8@w3
validation before the first step: 7.9781 bits per byte
"""


def plain(run: FakeRun) -> str:
    out = io.StringIO()
    shown = PlainProgress(out)
    for event in run.events():
        shown(event)
    shown.close()
    return out.getvalue()


def started(steps: int) -> RunStarted:
    return RunStarted(
        time_s=0.0, name="run", steps=steps, metric="bits per byte", metric_scale=2.0, job={},
        identity={},
    )  # fmt: skip


def step(number: int, seconds: float = 0.5) -> StepDone:
    return StepDone(
        time_s=number * seconds, step=number, generation=0, loss=1.0, auxiliary=0.0, norm=2.0,
        lr=1.0, count=1000, samples=1, seconds=seconds,
    )  # fmt: skip


def test_plain_lines_are_these() -> None:
    shown = plain(FakeRun(steps=4, stop=0, outcome=None))
    assert shown == GOLDEN


def test_plain_step_lines_are_these() -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    for event in (started(40), *(step(number) for number in range(1, 6))):
        shown(event)
    assert out.getvalue().splitlines() == [
        "run: 40 steps",
        "step  1/40  2.0000 bits per byte  norm 2.0000  2k bytes/s  500 ms/step  0:20 left",
        "step  2/40  2.0000 bits per byte  norm 2.0000  2k bytes/s  500 ms/step  0:19 left",
        "step  4/40  2.0000 bits per byte  norm 2.0000  2k bytes/s  500 ms/step  0:18 left",
    ]


def test_the_golden_lines_notice_a_wrong_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "_loss", lambda self, loss: f"{loss:.4f}")
    assert plain(FakeRun(steps=4, stop=0, outcome=None)) != GOLDEN


@pytest.mark.parametrize("steps", [1, 19, 20, 100, 1234])
def test_lines_come_by_step_count(steps: int) -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    shown(started(steps))
    for number in range(1, steps + 1):
        shown(step(number))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("step")]
    assert min(steps, 20) <= len(lines) <= 22 + steps // 20
    assert f"step {steps}/{steps}" in lines[-1]


def test_the_first_cause_is_the_last_on_the_screen() -> None:
    lines = plain(FakeRun(steps=40, stop=7, outcome="failed")).splitlines()
    traceback = [f"  {line}" for line in TRACEBACK.splitlines()]
    assert lines[-len(traceback) :] == traceback
    assert "first cause: worker 1 (rank 1, node 10.0.0.1), step 8, F 4:8 m2" in lines
    assert any(line.startswith("failed after 7 of 40 steps") for line in lines)


def test_of_several_failures_the_first_is_the_cause() -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    shown(started(4))
    for worker in (3, 1):
        shown(
            WorkerFailed(
                time_s=1.0, worker=worker, node="n", rank=worker, step=1, action="COMMIT",
                cause=f"cause {worker}", traceback="",
            )
        )  # fmt: skip
    shown(RunEnded(time_s=2.0, outcome="failed", step=0, reason="r"))
    assert out.getvalue().splitlines()[-1] == "  cause 3"


def test_a_failure_that_was_survived_is_not_repeated_at_the_end() -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    for event in resumed(FakeRun(steps=8), 5, 4):
        shown(event)
    assert "first cause" not in out.getvalue()
    assert "resumed after 4 steps" in out.getvalue()


def test_texts_cannot_move_the_cursor() -> None:
    out = io.StringIO()
    PlainProgress(out)(Warned(time_s=0.0, message="a\x1b[2Jb\rc\u202ed"))
    assert out.getvalue() == "warning: a\ufffd[2Jb\ufffdc\ufffdd\n"


def test_an_ascii_terminal_gets_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    PlainProgress(out)(Warned(time_s=0.0, message="caf\u00e9"))
    assert raw.getvalue() == b"warning: caf?\n"


class Gone(io.StringIO):
    """A pipe whose reader goes away after some writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError(32, os.strerror(32))
        return super().write(text)


@pytest.mark.parametrize("writes", [0, 1, 5])
def test_a_closed_pipe_does_not_stop_the_run(writes: int) -> None:
    makers = (PlainProgress, lambda out: LiveProgress(out, width=80))
    for make in makers:
        out = Gone(writes)
        shown = make(out)
        for event in FakeRun(steps=5).events():
            shown(event)
        shown.close()
        assert out.left == -1, "nothing is tried after the first failure"


def test_without_the_guard_a_closed_pipe_would_stop_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "_Audience", lambda stream: stream)
    with pytest.raises(BrokenPipeError):
        PlainProgress(Gone(0))(Warned(time_s=0.0, message="m"))


def test_a_closed_stream_does_not_stop_the_run() -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    out.close()
    shown(Warned(time_s=0.0, message="m"))


@pytest.mark.parametrize("width", [1, 8, 20, 47, 48, 80, 300])
@pytest.mark.parametrize("outcome", ["finished", "failed"])
def test_the_bar_fits_any_width(width: int, outcome: str) -> None:
    out = io.StringIO()
    shown = LiveProgress(out, width=width)
    for event in FakeRun(steps=5, outcome=outcome).events():
        shown(event)
        if shown._live is not None:
            lines = shown._console.render_lines(shown._picture(), pad=False)
            assert all(sum(part.cell_length for part in line) <= width for line in lines)
    shown.close()
    assert outcome in out.getvalue()
    assert shown._live is None


def test_the_bar_says_what_matters() -> None:
    shown = LiveProgress(io.StringIO(), width=120)
    shown(started(40))
    assert "waiting for the first step" in text_of(shown)
    for number in (1, 2):
        shown(step(number))
    for word in ("run", "2/40", "2.0000 bits per byte", "2k bytes/s", "0:19 left", "generation 0"):
        assert word in text_of(shown)
    shown.close()


def text_of(shown: LiveProgress) -> str:
    lines = shown._console.render_lines(shown._picture(), pad=False)
    return "\n".join("".join(part.text for part in line) for line in lines)


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_display_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    cases: list[tuple[TextIO, type[Progress]]] = [
        (Terminal(), LiveProgress),
        (io.StringIO(), PlainProgress),
    ]
    for stream, cls in cases:
        assert type(progress(stream)) is cls
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress(Terminal())) is PlainProgress


def test_a_loss_that_is_no_number_is_shown() -> None:
    out = io.StringIO()
    shown = PlainProgress(out)
    shown(started(4))
    shown(replace(step(1, seconds=0.0), loss=float("nan"), skipped=True))
    assert "nan bits per byte" in out.getvalue()
    assert "skipped" in out.getvalue()
