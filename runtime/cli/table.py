"""Columns of text for a terminal."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ithaca.planner.program import Action, Commit, Compute, Reduce, Replay, Spread, Step, Tie
from ithaca.planner.simulate import Timed, Timeline


def table(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """``rows`` in aligned columns, those numbered in ``right`` aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def gantt(timeline: Timeline, width: int) -> list[str]:
    """``timeline`` as one row of ``width`` characters per worker.

    A block starts with its letter and micro-batch; dots are idle time; transfers are not shown.
    """
    scale = width / timeline.step_s if timeline.step_s else 0.0
    label = max((len(f"w{worker}") for worker in timeline.rows), default=0)
    lines = [
        f"  {f'w{worker}':{label}} {_row(timed, scale, width)}"
        for worker, timed in sorted(timeline.rows.items())
    ]
    legend = "F forward  B backward  I W its two parts  R reduce  T tie  P replay  C commit  S step"
    return [*lines, f"  {'':{label}} {legend}"]


def _row(timed: Sequence[Timed], scale: float, width: int) -> str:
    cells = ["."] * width
    for one in timed:
        name = _label(one.action)
        first, last = round(one.start_s * scale), round(one.end_s * scale)
        if name and last > first:
            cells[first:last] = name.ljust(last - first, "-")[: last - first]
    return "".join(cells)


def _label(action: Action) -> str:
    match action:
        case Compute(op=op, micro_batch=micro_batch):
            return f"{op.value}{micro_batch}"
        case Reduce() | Spread():
            return "R"
        case Replay():
            return "P"
        case Tie():
            return "T"
        case Commit():
            return "C"
        case Step():
            return "S"
    return ""
