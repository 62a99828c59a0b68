"""The geometry of one step's timeline: for every worker what was planned and what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ithaca.planner.plan import Plan
from ithaca.planner.span import format_ids
from ithaca.runtime.events import Timeline
from ithaca.runtime.report.chart import SIDE, Tick, ticks
from ithaca.runtime.report.wording import duration

Rows = Sequence[tuple[str, float, float]]

LEGEND = (
    ("F", "forward"),
    ("B", "backward"),
    ("I", "backward, inputs"),
    ("W", "backward, weights"),
    ("WAIT", "waiting for input"),
    ("SEND", "sending"),
    ("RECV", "posting a receive"),
    ("REDUCE", "reduction"),
    ("TIE", "tied weights"),
    ("COMMIT", "commit"),
    ("STEP", "optimizer"),
    ("OTHER", "other"),
)
COMPUTE = frozenset({"F", "B", "I", "W", "STEP"})
EXCHANGE = frozenset({"SEND", "RECV", "REDUCE", "TIE", "COMMIT"})
_KNOWN = frozenset(op for op, _ in LEGEND)
_MOST_WORKERS = 32
_MOST_BARS = 600
_LABEL_PART = 0.022


@dataclass(frozen=True, slots=True)
class Bar:
    """One action: from ``left`` over ``width``, of 1000."""

    op: str
    left: float
    width: float
    title: str
    label: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A worker's step: ``kind`` is ``planned`` or ``measured``."""

    kind: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Crew:
    """A worker, what it holds, and its lanes."""

    name: str
    holds: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True)
class Gantt:
    """A timeline ready to draw."""

    crews: tuple[Crew, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Share:
    """Parts of a step that a worker computed, exchanged, and did neither."""

    busy: float
    exchange: float
    idle: float


def op_of(action: str) -> str:
    """The op that an action's text starts with; ``OTHER`` if it is none that is known."""
    word, _, _ = action.partition(" ")
    return word if word in _KNOWN else "OTHER"


def gantt(
    predicted: Mapping[int, Rows], measured: Mapping[int, Timeline], plan: Plan | None
) -> Gantt:
    """Both timelines on one axis that starts with the step; clocks are joined by ``began_s``."""
    shifted = aligned(measured)
    workers = sorted({*predicted, *shifted})
    rows = [row for part in (*predicted.values(), *shifted.values()) for row in part]
    length = max((end for _, _, end in rows), default=0.0)
    if length <= 0:
        return Gantt((), (), (), 0)
    crews = []
    for worker in workers[:_MOST_WORKERS]:
        lanes = [
            Lane(kind, tuple(_bars(part[worker], length)))
            for kind, part in (("planned", predicted), ("measured", shifted))
            if worker in part
        ]
        crews.append(Crew(f"worker {worker}", held(plan, worker), tuple(lanes)))
    seen = {"WAIT", *(op_of(action) for action, _, _ in rows)}
    return Gantt(
        crews=tuple(crews),
        ticks=tuple(Tick(SIDE * at / length, duration(at) if at else "0") for at in _grid(length)),
        legend=tuple((op, text) for op, text in LEGEND if op in seen),
        left_out=max(0, len(workers) - _MOST_WORKERS),
    )


def aligned(measured: Mapping[int, Timeline]) -> dict[int, Rows]:
    """Rows in seconds since the first worker began the step."""
    first = min((line.began_s for line in measured.values()), default=0.0)
    return {
        worker: [
            (action, start + line.began_s - first, end + line.began_s - first)
            for action, start, end in line.rows
        ]
        for worker, line in measured.items()
    }


def shares(rows: Rows, length: float) -> Share:
    """How a worker spent a step of ``length`` seconds.

    Time that several rows claim counts once: waiting first, then computing, then exchanging.
    """
    waits = _covered(rows, {"WAIT"})
    busy = _covered(rows, COMPUTE | {"WAIT"}) - waits
    exchange = _covered(rows, COMPUTE | EXCHANGE | {"WAIT"}) - waits - busy
    if length <= 0:
        return Share(0.0, 0.0, 0.0)
    return Share(busy / length, exchange / length, max(0.0, 1 - (busy + exchange) / length))


def _covered(rows: Rows, ops: Iterable[str]) -> float:
    """Seconds that at least one row of ``ops`` covers."""
    wanted = set(ops)
    total, reached = 0.0, float("-inf")
    for start, end in sorted((a, b) for action, a, b in rows if op_of(action) in wanted):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _bars(rows: Rows, length: float) -> list[Bar]:
    """Bars, waits below the rest; neighbours of one kind are joined when there are too many."""
    order = sorted(rows, key=lambda row: (op_of(row[0]) != "WAIT", row[1]))
    least = 0.0 if len(rows) <= _MOST_BARS else length / _MOST_BARS
    bars: list[tuple[str, float, float, int]] = []
    for action, start, end in order:
        op, many = op_of(action), 1
        if bars and least and end - bars[-1][1] < least and op_of(bars[-1][0]) == op:
            start, many = bars[-1][1], bars[-1][3] + 1
            bars.pop()
        bars.append((action, start, end, many))
    return [_bar(action, start, end, many, length) for action, start, end, many in bars]


def _bar(action: str, start: float, end: float, many: int, length: float) -> Bar:
    op, part = op_of(action), (end - start) / length
    title = action if many == 1 else f"{action} and {many - 1} more"
    words = action.split()
    numbered = op in ("F", "B", "I", "W") and len(words) == 3 and many == 1
    label = words[2].removeprefix("m") if numbered and part >= _LABEL_PART else ""
    return Bar(
        op=op,
        left=round(SIDE * start / length, 2),
        width=round(SIDE * part, 2),
        title=f"{title}\n{duration(end - start)}, from {duration(start)}",
        label=label,
    )


def _grid(length: float) -> list[float]:
    return [at for at in ticks(0.0, length, 6) if at <= length * 0.97]


def held(plan: Plan | None, worker: int) -> str:
    """The layers that ``worker`` holds, as stage or as shadow; empty if that is not known."""
    layers = plan.held(worker) if plan is not None else ()
    if not layers:
        return ""
    ranges = format_ids(layers).replace(",", ", ").replace("-", "–")  # noqa: RUF001
    return f"layer{'s' if len(layers) > 1 else ''} {ranges}"
