"""What a search shows while it goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ithaca.runtime.report.wording import clock, figure, plural, printable
from ithaca.tuners.loop.coordinator import OUT_OF_TIME, Summary
from ithaca.tuners.space import Config

_LINE_S = 5.0
"""Seconds of the search between two plain lines without news."""


class Progress(Protocol):
    """Told how a search stands, several times a second."""

    def __call__(self, summary: Summary) -> None:
        """Show it."""

    def close(self) -> None:
        """End."""


def progress(out: TextIO) -> Progress:
    """A live table if ``out`` is a terminal, else lines."""
    return LiveTable(out) if out.isatty() else Lines(out)


def told(config: Config) -> str:
    """A configuration on one line."""
    parts = [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in config.items()
    ]
    return printable(" ".join(parts))


def line(summary: Summary) -> str:
    """How it stands, on one line."""
    best = "no value yet" if summary.best is None else f"best {figure(summary.best)}"
    alive, arms = summary.arms
    counts = summary.trials
    number = sum(counts.values())
    parts = [
        f"{clock(max(summary.budget_s - summary.now_s, 0.0))} left",
        best,
        f"{plural(number, 'trial')} ({counts.get('running', 0)} running, "
        f"{counts.get('paused', 0)} paused, {counts.get(OUT_OF_TIME, 0)} out of time, "
        f"{counts.get('failed', 0)} failed)",
    ]
    if arms > 1:
        parts.append(f"{len(alive)} of {arms} arms alive")
    if summary.lost:
        parts.append(f"{plural(summary.lost, 'process')} lost")
    return "  ".join(parts)


class Lines:
    """A line for each better value, and one now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._best: float | None = None
        self._at_s = -_LINE_S

    def __call__(self, summary: Summary) -> None:
        """Show it if there is news."""
        news = summary.best is not None and summary.best != self._best
        if not news and summary.now_s - self._at_s < _LINE_S and not summary.over:
            return
        if summary.now_s == 0:
            return
        self._best, self._at_s = summary.best, summary.now_s
        self._out.write(line(summary) + "\n")
        if news and summary.config:
            self._out.write(f"    {told(summary.config)}\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is left to end."""


class LiveTable:
    """A bar, the best configuration, and what runs."""

    def __init__(self, out: TextIO) -> None:
        self._live = Live(console=Console(file=out), refresh_per_second=8, transient=True)
        self._live.start()

    def __call__(self, summary: Summary) -> None:
        """Show it."""
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=summary.budget_s, completed=summary.now_s, width=24), line(summary)
        )
        if summary.config is not None:
            grid.add_row("best", told(summary.config))
        running = "  ".join(f"p{n}: trial {t} step {s}" for n, t, s in summary.running)
        grid.add_row("running", running or "nothing")
        self._live.update(grid)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()
