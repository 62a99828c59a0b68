"""The geometry of a line chart: what a template needs to draw it, in parts of the whole.

Coordinates run from 0 to 1000 over the plot, x to the right and y *down*, as in SVG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ithaca.runtime.report.wording import figure, plural

Points = Sequence[tuple[float, float]]

SIDE = 1000.0
_MOST, _LEAST = 1e300, 1e-250
"""Beyond these a difference of two values, or a part of it, is no number any more."""
_MOST_POINTS = 600
_MOST_HITS = 100


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over steps.

    ``look`` is the CSS class that a template draws it with, ``last`` the value for the legend
    if it is not that of the last point.
    """

    label: str
    look: str
    points: Points
    dots: bool = False
    last: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis (0 to 1000) and the text that stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A drawn curve: an SVG path, and the last value for the legend."""

    label: str
    look: str
    path: str
    dots: bool
    last: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A column of the plot that shows ``text`` under the mouse."""

    at: float
    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to draw; without strokes there is nothing to show."""

    title: str
    unit: str
    strokes: tuple[Stroke, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    hits: tuple[Hit, ...]
    note: str


def chart(
    title: str,
    unit: str,
    curves: Iterable[Curve],
    *,
    marks: Iterable[tuple[float, str]] = (),
    floor: float | None = None,
    write: Callable[[float], str] = figure,
) -> Chart:
    """Lay out ``curves`` over one pair of axes.

    Args:
        title: what is shown.
        unit: of the values.
        curves: values that are not finite are left out, and counted in the note.
        marks: (step, text) of vertical lines.
        floor: a value that the y axis must reach down to.
        write: how a value is written.
    """
    given = list(curves)
    finite = [_finite(curve) for curve in given]
    missing = sum(len(a.points) - len(b.points) for a, b in zip(given, finite, strict=True))
    note = f"{plural(missing, 'value')} not finite, not drawn" if missing else ""
    shown = [curve for curve in finite if curve.points]
    if not shown:
        return Chart(title, unit, (), (), (), (), (), note)
    x_scale = _Scale.over([x for curve in shown for x, _ in curve.points])
    values = [y for curve in shown for _, y in curve.points] + ([] if floor is None else [floor])
    y_scale = _Scale.over(values).rounded(5)
    return Chart(
        title=title,
        unit=unit,
        strokes=tuple(_stroke(curve, x_scale, y_scale, write) for curve in shown),
        x_ticks=tuple(Tick(x_scale(x), f"{x:,.0f}") for x in x_scale.ticks(6, whole=True)),
        y_ticks=tuple(Tick(SIDE - y_scale(y), text) for y, text in _worded(y_scale.ticks(5))),
        marks=tuple(
            Tick(x_scale(x), text) for x, text in marks if x_scale.low <= x <= x_scale.high
        ),
        hits=tuple(_hits(shown, x_scale, write)),
        note=note,
    )


def smooth(points: Points) -> Points:
    """The mean over a window of about a fortieth of the points, centred on each."""
    known = [(x, y) for x, y in points if abs(y) <= _MOST]
    reach = max(1, len(known) // 80)
    sums = [0.0, *accumulate(y for _, y in known)]
    out = []
    for place, (x, _) in enumerate(known):
        near = min(reach, place, len(known) - 1 - place)
        total = sums[place + near + 1] - sums[place - near]
        out.append((x, total / (2 * near + 1)))
    return out


def thin(points: Points, most: int = _MOST_POINTS) -> Points:
    """At most about ``most`` points with the same outline: each bucket's lowest and highest."""
    if len(points) <= most:
        return points
    buckets = most // 2
    out: list[tuple[float, float]] = [points[0]]
    for number in range(buckets):
        part = points[len(points) * number // buckets : len(points) * (number + 1) // buckets]
        low, high = min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])
        out += sorted({low, high})
    return [*out, points[-1]] if out[-1] != points[-1] else out


def tick_step(low: float, high: float, count: int) -> float:
    """A round number that goes about ``count`` times into ``high - low``, which is above 0."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About ``count`` round numbers within [low, high], evenly spaced; integers if ``whole``."""
    step = tick_step(low, high, count)
    if whole:
        step = float(max(1, math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> _Scale:
        low, high = min(values), max(values)
        if high - low <= max(_LEAST, 1e-9 * max(abs(low), abs(high))):
            around = abs(low) * 0.5 or 1.0
            return cls(low - around, high + around)
        return cls(low, high)

    def __call__(self, value: float) -> float:
        return round(SIDE * (value - self.low) / (self.high - self.low), 2)

    def rounded(self, count: int) -> _Scale:
        """With each end moved to the next tick if that is near, and a little if it is far."""
        near, little = 0.14 * (self.high - self.low), 0.04 * (self.high - self.low)
        step = tick_step(self.low, self.high, count)
        low = math.floor(self.low / step + 1e-9) * step
        high = math.ceil(self.high / step - 1e-9) * step
        return _Scale(
            low if self.low - low <= near else self.low - little,
            high if high - self.high <= near else self.high + little,
        )

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self, count: int, *, whole: bool = False) -> list[float]:
        return ticks(self.low, self.high, count, whole=whole)


def _finite(curve: Curve) -> Curve:
    points = [(x, y) for x, y in curve.points if abs(y) <= _MOST]
    return replace(curve, points=points)


def _stroke(curve: Curve, x: _Scale, y: _Scale, write: Callable[[float], str]) -> Stroke:
    places = [(x(a), round(SIDE - y(b), 2)) for a, b in thin(curve.points)]
    dots = curve.dots or len(places) == 1
    if dots:
        path = "".join(f"M{a:g} {b:g}h0" for a, b in places)
    else:
        path = "M" + "L".join(f"{a:g} {b:g}" for a, b in places)
    last = curve.points[-1][1] if curve.last is None else curve.last
    return Stroke(curve.label, curve.look, path, dots, write(last))


def _worded(values: Sequence[float]) -> list[tuple[float, str]]:
    """Axis values with the fewest decimals that keep them apart."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e4 or 0 < largest < 1e-2:
        power = math.floor(math.log10(largest) / 3) * 3
        if power < 0:
            return [(value, f"{value:.3g}") for value in values]
        suffix = {3: "k", 6: "M", 9: "G", 12: "T"}.get(power, f"e{power}")
        return [(value, f"{value / 10.0**power:g}{suffix}" if value else "0") for value in values]
    return [(value, f"{round(value, 6):g}") for value in values]


def _hits(curves: Sequence[Curve], x: _Scale, write: Callable[[float], str]) -> list[Hit]:
    steps = sorted({a for curve in curves for a, _ in curve.points})
    if len(steps) > _MOST_HITS:
        steps = [steps[len(steps) * i // _MOST_HITS] for i in range(_MOST_HITS)] + steps[-1:]
    known = [(curve.label, dict(curve.points)) for curve in curves]
    edges = [x(step) for step in steps]
    hits = []
    for number, step in enumerate(steps):
        left = (edges[number - 1] + edges[number]) / 2 if number else 0.0
        right = (edges[number] + edges[number + 1]) / 2 if number + 1 < len(edges) else SIDE
        lines = [f"step {step:,.0f}"]
        lines += [f"{label} {write(at[step])}" for label, at in known if step in at]
        hits.append(Hit(edges[number], round(left, 2), round(right - left, 2), "\n".join(lines)))
    return hits
