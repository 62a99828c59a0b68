"""What the driver shows while a run goes on: a live bar on a terminal, plain lines elsewhere.

Fed by events alone; no clock is read, so the same log always shows the same lines. Output that
cannot be written (a closed pipe) is given up silently: training does not depend on its audience.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ithaca.runtime.events import (
    CheckpointWritten,
    ControllerRestarted,
    Decided,
    Event,
    FailureNoticed,
    FaultInjected,
    PlanChosen,
    Recovered,
    RunEnded,
    RunStarted,
    Showcase,
    StepDone,
    Validated,
    Warned,
    WorkerFailed,
    WorkerJoined,
    WorkerLeft,
)
from ithaca.runtime.report.wording import (
    clock,
    duration,
    figure,
    plural,
    printable,
    rate_unit,
    short,
    size,
)

_RECENT = 20
"""Steps that rate and time to go are taken from."""
_REFRESH_S = 0.1
"""The bar is drawn anew when this much time has passed by the events' own clock."""


class Progress(ABC):
    """Shows a run; call it with every event, and :meth:`close` it at the end."""

    def __init__(self) -> None:
        self._run: RunStarted | None = None
        self._step = 0
        self._last: StepDone | None = None
        self._valid: Validated | None = None
        self._recent: deque[StepDone] = deque(maxlen=_RECENT)
        self._nodes: dict[int, str] = {}
        self._failure: WorkerFailed | None = None

    def __call__(self, event: Event) -> None:
        """Take the event in and show what it changes."""
        match event:
            case RunStarted():
                self._run = event
                self._step = event.resumed_from or 0
            case StepDone():
                self._step, self._last, self._failure = event.step, event, None
                self._recent.append(event)
            case Validated():
                self._valid = event
            case WorkerJoined():
                self._nodes[event.worker] = event.node
            case WorkerLeft():
                self._nodes.pop(event.worker, None)
            case WorkerFailed() if self._failure is None:
                self._failure = event
        self._show(event)

    def close(self) -> None:
        """Show the first cause of a failure that nothing else has shown. Idempotent."""
        if self._failure is not None:
            for line in self._cause(self._failure):
                self._print(line, "red")
            self._failure = None

    @abstractmethod
    def _show(self, event: Event) -> None:
        """Show the event."""

    @abstractmethod
    def _print(self, line: str, style: str = "") -> None:
        """A line that stays."""

    def _loss(self, loss: float) -> str:
        run = self._run
        return figure(loss * run.metric_scale) if run else figure(loss)

    def _rate(self) -> str:
        seconds = sum(step.seconds for step in self._recent)
        rate = sum(step.count for step in self._recent) / seconds if seconds > 0 else 0.0
        return f"{short(rate)} {rate_unit(self._run.metric if self._run else '')}"

    def _left(self) -> str:
        if not self._recent or self._run is None:
            return ""
        step_s = median(step.seconds for step in self._recent)
        return f"{clock(step_s * max(0, self._run.steps - self._step))} left"

    def _lines(self, event: Event) -> list[tuple[str, str]]:
        """The lines that stay, each with a style, for anything but a step."""
        match event:
            case RunStarted():
                return [(line, "bold" if not i else "dim") for i, line in enumerate(_head(event))]
            case PlanChosen():
                return self._plan(event)
            case Validated() if self._run:
                loss = f"{self._loss(event.loss)} {self._run.metric}"
                when = (
                    f"after {plural(event.step, 'step')}" if event.step else "before the first step"
                )
                return [(f"validation {when}: {loss}", "cyan")]
            case CheckpointWritten():
                facts = f"{size(event.bytes)} in {duration(event.seconds)}"
                return [(f"checkpoint after {plural(event.step, 'step')}: {facts}, {event.path}",
                         "dim")]  # fmt: skip
            case Warned():
                return [(f"warning: {event.message}", "yellow")]
            case WorkerFailed():
                where = f"worker {event.worker} failed in step {event.step}, {event.action}"
                return [(f"{where}: {event.cause}", "red")]
            case (
                FailureNoticed()
                | Decided()
                | Recovered()
                | WorkerLeft()
                | FaultInjected()
                | ControllerRestarted()
            ):
                return [_recovery(event)]
            case Showcase():
                body = [(f"  {line}", "") for line in event.text.splitlines()]
                return [("the trained model writes:", "bold"), *body]
            case RunEnded():
                return self._end(event)
        return []

    def _plan(self, event: PlanChosen) -> list[tuple[str, str]]:
        expected = event.predicted_step_s
        ahead = f"; {duration(expected)} a step expected" if expected is not None else ""
        nodes = len(set(self._nodes.values()))
        where = f", {plural(len(self._nodes), 'worker')} on {plural(nodes, 'node')}"
        head = f"generation {event.generation}{where if nodes else ''}: {event.reason}{ahead}"
        return [(head, ""), *((f"  {line}", "dim") for line in event.plan.splitlines())]

    def _end(self, event: RunEnded) -> list[tuple[str, str]]:
        run = self._run
        steps = plural(event.step, "step")
        if run:
            steps = f"{event.step:,} of {plural(run.steps, 'step')}"
        took = f" in {duration(event.time_s - run.time_s)}" if run else ""
        why = f": {event.reason}" if event.reason and event.outcome != "finished" else ""
        state = f"; state {event.state_hash}" if event.state_hash else ""
        style = {"finished": "bold green", "failed": "bold red"}.get(event.outcome, "bold yellow")
        return [(f"{event.outcome} after {steps}{took}{why}{state}", style)]

    @staticmethod
    def _cause(event: WorkerFailed) -> list[str]:
        where = f"worker {event.worker} (rank {event.rank}, node {event.node})"
        lines = event.traceback.splitlines() or [event.cause]
        return [
            f"first cause: {where}, step {event.step}, {event.action}",
            *(f"  {line}" for line in lines),
        ]


class PlainProgress(Progress):
    """One line for about every twentieth part of the steps, and one for whatever else happens."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = _Audience(stream)

    def _show(self, event: Event) -> None:
        if isinstance(event, StepDone) and self._run:
            every = max(1, self._run.steps // 20)
            if event.step % every == 0 or event.step in (1, self._run.steps):
                self._print(self._step_line(event, self._run))
        for line, _ in self._lines(event):
            self._print(line)
        if isinstance(event, RunEnded):
            self.close()

    def _step_line(self, event: StepDone, run: RunStarted) -> str:
        skipped = "  skipped" if event.skipped else ""
        return (
            f"step {event.step:>{len(str(run.steps))}}/{run.steps}"
            f"  {self._loss(event.loss)} {run.metric}  norm {figure(event.norm)}"
            f"  {self._rate()}  {duration(event.seconds)}/step  {self._left()}{skipped}"
        )

    def _print(self, line: str, style: str = "") -> None:
        self._stream.write(printable(line) + "\n")
        self._stream.flush()


class LiveProgress(Progress):
    """A bar that is redrawn in place, with the lines that stay scrolling by above it."""

    def __init__(self, stream: TextIO, *, width: int | None = None) -> None:
        super().__init__()
        self._console = Console(
            file=cast(TextIO, _Audience(stream)), force_terminal=True, width=width, highlight=False,
            markup=False, emoji=False,
        )  # fmt: skip
        self._live: Live | None = None
        self._drawn_s = 0.0

    def close(self) -> None:
        """Take the bar away and show a failure's first cause. Idempotent."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        super().close()

    def _show(self, event: Event) -> None:
        for line, style in self._lines(event):
            self._print(line, style)
        if isinstance(event, RunEnded):
            self.close()
            return
        if isinstance(event, RunStarted) and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        last = self._run is not None and self._step >= self._run.steps
        if self._live is not None and (event.time_s - self._drawn_s >= _REFRESH_S or last):
            self._drawn_s = event.time_s
            self._live.update(self._picture(), refresh=True)

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(printable(line), style=style), soft_wrap=True)

    def _picture(self) -> Group:
        run = self._run
        assert run is not None, "the bar is started by the first event of the run"
        name = Text(printable(run.name), style="bold", no_wrap=True, overflow="ellipsis")
        count = Text(f"{self._step:,}/{run.steps:,}", style="bold")
        bar = ProgressBar(
            total=run.steps, completed=self._step, complete_style="dodger_blue1",
            finished_style="green",
        )  # fmt: skip
        head = Table.grid(expand=True, padding=(0, 1))
        if self._console.width >= 48:
            head.add_column(max_width=24)
            head.add_column(ratio=1)
            head.add_column(justify="right")
            head.add_row(name, bar, count)
        else:
            head.add_column(ratio=1)
            head.add_column(justify="right")
            head.add_row(bar, count)
        return Group(head, self._facts(run))

    def _facts(self, run: RunStarted) -> Text:
        """What is known now, without what the width has no room for, least important first."""
        facts: list[tuple[int, str]] = []
        if self._last is None:
            facts.append((0, "waiting for the first step"))
        else:
            facts.append((0, f"{self._loss(self._last.loss)} {run.metric}"))
        if self._valid is not None:
            facts.append((2, f"validation {self._loss(self._valid.loss)}"))
        if self._last is not None:
            facts += [(3, self._rate()), (1, self._left())]
            facts.append((4, f"generation {self._last.generation}"))
        while len(facts) > 1 and len(" · ".join(text for _, text in facts)) > self._console.width:
            facts.remove(max(facts))
        text = Text(no_wrap=True, overflow="ellipsis")
        for index, (rank, fact) in enumerate(facts):
            text.append(" · " if index else "", style="dim")
            text.append(printable(fact), style="" if rank == 0 else "dim")
        return text


def progress(stream: TextIO) -> Progress:
    """The display that suits ``stream``: live on a terminal that can move its cursor."""
    if _Audience(stream).isatty() and not Console(file=stream).is_dumb_terminal:
        return LiveProgress(stream)
    return PlainProgress(stream)


def _head(run: RunStarted) -> list[str]:
    workload = run.job.get("workload")
    use = workload.get("use") if isinstance(workload, dict) else None
    facts = [plural(run.steps, "step")]
    if "numerics" in run.job:
        facts.append(f"{run.job['numerics']} numerics")
    if use:
        facts.append(f"workload {use}")
    if run.resumed_from is not None:
        facts.append(f"resumed after {plural(run.resumed_from, 'step')}")
    identity = ", ".join(f"{key} {value}" for key, value in run.identity.items())
    return [f"{run.name}: {', '.join(facts)}", *([f"  {identity}"] if identity else [])]


Recovery = FailureNoticed | Decided | Recovered | WorkerLeft | FaultInjected | ControllerRestarted


def _recovery(event: Recovery) -> tuple[str, str]:
    """One line, with its style, for a moment of a recovery."""
    match event:
        case FailureNoticed():
            who = (
                f"worker {event.worker} on {event.node}" if event.worker is not None else "the run"
            )
            where = f"step {event.step}" + (f", {event.action}" if event.action else "")
            return f"{event.failure}: {who}, {where}: {event.evidence}", "red"
        case Decided():
            return f"generation {event.generation} by {event.strategy}: {event.reason}", "yellow"
        case Recovered():
            took = duration(sum(event.phases.values()))
            redone = plural(event.redone_micro_batches, "micro-batch")
            return f"recovered by {event.strategy} in {took}; {redone} done again", "green"
        case WorkerLeft():
            return f"worker {event.worker} on {event.node} left: {event.reason}", "yellow"
        case FaultInjected():
            whom = f" on worker {event.worker}" if event.worker is not None else ""
            return f"drill: {event.fault}{whom} in step {event.step}, {event.action}", "magenta"
        case ControllerRestarted():
            return f"the controller was restarted ({event.incarnation}); training went on", "yellow"


class _Audience(io.TextIOBase):
    """A stream that may go away: the first write that fails is the last one tried."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.gone = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if not self.gone:
            known = text.encode(self.encoding, "replace").decode(self.encoding)
            self._try(lambda: self._stream.write(known))
        return len(text)

    def flush(self) -> None:
        if not self.gone:
            self._try(self._stream.flush)

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            self.gone = True
        except ValueError:
            if not self._stream.closed:
                raise
            self.gone = True
