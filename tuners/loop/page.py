"""The report of a search: one HTML page that needs nothing but itself.

Everything on it comes from the journal and the log of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ithaca.runtime.atomic import replace_file
from ithaca.runtime.report.chart import Chart, Curve, chart
from ithaca.runtime.report.figures import Tile
from ithaca.runtime.report.wording import duration, figure, percent, plural, printable, size
from ithaca.tuners.importance import importance
from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop.progress import told
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, Gone, Line, Ran, Took, read_lines
from ithaca.tuners.search import Search
from ithaca.tuners.trial import Event, Failure, State, Told, Trial

_LOOKS = ("valid", "norm", "lr", "rate")


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm: its name, whether it is alive, and what it had and brought."""

    name: str
    alive: bool
    trials: int
    failed: int
    best: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A run on a process's lane: geometry in parts of 1000, a CSS class, and a text."""

    left: float
    width: float
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Part:
    """How much a parameter matters, from 0 to 1."""

    name: str
    part: float


def build_page(name: str, folder: Path) -> str:
    """The page as HTML text.

    Raises:
        JournalError: the journal is damaged or empty.
    """
    search, events = read_journal(folder / JOURNAL)
    lines = list(read_lines(folder / LOG))
    end_s = max((event.now_s for event in events if isinstance(event, Told)), default=0.0)
    template = _environment().get_template("tune.html.j2")
    return template.render(
        name=name,
        facts=_facts(search),
        tiles=_tiles(search, lines, end_s),
        anytime=_anytime(search, events),
        arms=_arm_rows(search),
        parts=[Part(each, part) for each, part in importance(search).items()],
        curves=_curves(search, lines),
        lanes=_lanes(lines, end_s),
        best=told(search.full(search.best)) if search.best else None,
        trials=_trial_rows(search),
        events=_happened(lines),
        end_s=end_s,
    )


def write_page(name: str, folder: Path, page: Path | None = None) -> Path:
    """Write the page of the search in a folder, whole or not at all; its path.

    ``page``: where; default: ``report.html`` in the folder.

    Raises:
        JournalError: the journal is damaged or empty.
        OSError: it cannot be written.
    """
    path = page or folder / "report.html"
    replace_file(path, [build_page(name, folder).encode("utf-8", "backslashreplace")])
    return path


def _facts(search: Search) -> list[str]:
    s = search.settings
    found = [s.policy, plural(len(search.arms), "arm"), f"{plural(s.workers, 'trial')} at once"]
    if s.fidelity is not None:
        found.append("rungs " + ", ".join(map(str, s.fidelity.rungs())))
    return [*found, f"seed {s.seed}"]


def _tiles(search: Search, lines: Sequence[Line], end_s: float) -> list[Tile]:
    best = search.best
    trials = list(search.trials.values())
    failed = sum(t.state is State.FAILED and t.failure is not Failure.TIME for t in trials)
    cut = sum(t.failure is Failure.TIME for t in trials)
    budget = search.settings.budget_s
    lost = sum(isinstance(line, Gone) for line in lines)
    again = sum(isinstance(line, Begun) and line.again for line in lines)
    steps = sum(line.step - line.first for line in lines if isinstance(line, Ran))
    return [
        Tile(
            "Best value",
            "none" if best is None or best.value is None else figure(best.value),
            "",
            "" if best is None else f"trial {best.number}, {plural(best.fidelity, 'step')}",
        ),
        Tile("Trials", f"{len(trials)}", "", f"{failed} failed, {cut} out of time"),
        Tile("Steps trained", f"{steps:,}"),
        Tile("Time", duration(end_s), "", f"of {duration(budget)}" if budget else ""),
        Tile("Processes lost", f"{lost}", "", f"{plural(again, 'trial')} begun anew"),
    ]


def _anytime(search: Search, events: Sequence[Event]) -> Chart:
    best: list[tuple[float, float]] = []
    every: list[tuple[float, float]] = []
    better = max if search.settings.maximize else min
    for event in events:
        if isinstance(event, Told) and event.value is not None:
            every.append((event.now_s, event.value))
            if best:
                best.append((event.now_s, best[-1][1]))
                best.append((event.now_s, better(best[-1][1], event.value)))
            else:
                best.append((event.now_s, event.value))
    curves = [Curve("best so far", "train", best), Curve("every value", "valid", every, dots=True)]
    return chart("Best value over time", "seconds", curves)


def _arm_rows(search: Search) -> list[ArmRow]:
    alive = set(search.alive())
    total = sum(t.cost_s for t in search.trials.values()) or 1.0
    rows = []
    for name in search.arms:
        mine = [t for t in search.trials.values() if t.arm == name]
        spent = sum(t.cost_s for t in mine)
        values = [t.value for t in mine if t.value is not None]
        best = (max if search.settings.maximize else min)(values) if values else None
        failed = sum(t.state is State.FAILED and t.failure is not Failure.TIME for t in mine)
        told_best = "none" if best is None else figure(best)
        rows.append(ArmRow(name, name in alive, len(mine), failed, told_best, spent, spent / total))
    return sorted(rows, key=lambda row: -row.seconds)


def _ranked(search: Search) -> list[Trial]:
    def order(trial: Trial) -> tuple[bool, float]:
        value = trial.value
        if value is None:
            return True, 0.0
        return False, -value if search.settings.maximize else value

    return sorted(search.trials.values(), key=order)


def _curves(search: Search, lines: Sequence[Line]) -> Chart:
    top = [t.number for t in _ranked(search)[: len(_LOOKS)] if t.value is not None]
    curves = []
    for look, number in zip(_LOOKS, top, strict=False):
        points: dict[int, float] = {}
        for line in lines:
            if isinstance(line, Ran) and line.trial == number:
                points |= {line.first + i + 1: loss for i, loss in enumerate(line.losses)}
        curves.append(Curve(f"trial {number}", look, sorted(points.items())))
    return chart("Training loss of the best trials", "steps", curves)


def _lanes(lines: Sequence[Line], end_s: float) -> list[tuple[str, list[Bar]]]:
    lanes: dict[int, list[Bar]] = {}
    scale = 1000 / end_s if end_s else 0.0
    for line in lines:
        if isinstance(line, Ran):
            look = "pause" if line.failure == "timeout" else "bad" if line.failure else "good"
            title = (
                f"trial {line.trial}, steps {line.first} to {line.step}, {duration(line.seconds)}"
            )
            begin = max(line.at_s - line.seconds, 0.0)
            bar = Bar(begin * scale, max(line.seconds * scale, 1.0), look, title)
            lanes.setdefault(line.process, []).append(bar)
        elif isinstance(line, Gone):
            title = f"lost at {duration(line.at_s)}"
            lanes.setdefault(line.process, []).append(Bar(line.at_s * scale, 4.0, "lost", title))
    return [(f"process {number}", bars) for number, bars in sorted(lanes.items())]


def _trial_rows(search: Search) -> list[dict[str, Any]]:
    return [
        {
            "number": t.number,
            "arm": t.arm,
            "value": "none" if t.value is None else figure(t.value),
            "steps": t.fidelity,
            "seconds": t.cost_s,
            "state": t.failure.value if t.failure else t.state.value,
            "config": told(search.full(t)),
            "reason": t.reason,
        }
        for t in _ranked(search)
    ]


def _happened(lines: Sequence[Line]) -> list[str]:
    found = []
    for line in lines:
        at = duration(line.at_s)
        if isinstance(line, Gone):
            what = "nothing" if line.trial is None else f"trial {line.trial}"
            found.append(f"{at}: process {line.process} was lost; it trained {what}")
        elif isinstance(line, Took) and line.events:
            found.append(f"{at}: a new coordinator took over behind {line.events} events")
        elif isinstance(line, Begun) and line.again:
            found.append(f"{at}: no copy of trial {line.trial} was left; from step {line.first}")
    return found


def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader(
            [
                PackageLoader("ithaca.tuners.loop", "template"),
                PackageLoader("ithaca.runtime.report", "template"),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"duration": duration, "size": size, "percent": percent}
    return environment
