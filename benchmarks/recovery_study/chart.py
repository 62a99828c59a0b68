"""The chart of the study as SVG: for every system its part of the ideal, a dot for each trace."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from xml.sax.saxutils import escape

from benchmarks.recovery_study.sheet import Row
from benchmarks.recovery_study.study import SINGLE

LEFT, WIDTH, LINE, TOP = 170, 520, 22, 46
TITLE = "Throughput through failures, part of the ideal (simulated, 32 V100)"


def chart(rows: Sequence[Row]) -> str:
    """One SVG image; the mean is a bar, and a title under each dot names its trace."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["numerics"] == "fast" and not row["trace"].startswith(SINGLE):
            found.setdefault(row["system"], {})[row["trace"]] = float(row["of_ideal"])
    ranked = sorted(found.items(), key=lambda item: -mean(item[1].values()))
    height = TOP + LINE * len(ranked) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 40} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="8" y="20" font-size="14">{escape(TITLE)}</text>',
        *_grid(height),
    ]
    for place, (system, values) in enumerate(ranked):
        parts += _line(TOP + LINE * place, system, values)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(height: int) -> list[str]:
    parts = []
    for tenth in range(0, 11, 2):
        x = _x(tenth / 10)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{height - 24}" stroke="#ccc"/>'
            f'<text x="{x}" y="{height - 8}" text-anchor="middle">{tenth / 10:g}</text>'
        )
    return parts


def _line(y: int, system: str, values: dict[str, float]) -> list[str]:
    middle = y + LINE / 2
    colour = "#b3541e" if system == "ours" else "#557"
    parts = [
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(system)}</text>',
        f'<rect x="{_x(0)}" y="{y + 5}" width="{_x(mean(values.values())) - _x(0):.1f}" '
        f'height="{LINE - 10}" fill="{colour}" fill-opacity="0.35"/>',
    ]
    for trace, value in values.items():
        title = escape(f"{trace}: {value:.3f}")
        parts.append(
            f'<circle cx="{_x(value):.1f}" cy="{middle}" r="3" fill="{colour}">'
            f"<title>{title}</title></circle>"
        )
    return parts


def _x(part: float) -> float:
    return round(LEFT + WIDTH * part, 1)
