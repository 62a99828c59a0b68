"""When cards come and go: published spot traces, and seeded Poisson failures with repairs."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.recovery_study.cluster import CARDS

BAMBOO = Path("traces") / "bamboo"
PARCAE = Path("traces") / "parcae"
GAPS_S = (600, 1800, 3600, 7200, 21600)
"""Mean seconds between the failures of the Poisson traces."""

LONGEST_S = 24 * 3600.0
GAPS = 48
"""A Poisson trace has so many mean gaps, and a day at most."""

REPAIR_S = 1800
"""Mean seconds until a lost card is there again."""


@dataclass(frozen=True, slots=True)
class Change:
    """At ``time_s`` these cards go and those come."""

    time_s: float
    lost: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Trace:
    """``start`` are the cards at time 0; ``changes`` are in order, all before ``duration_s``."""

    name: str
    duration_s: float
    start: frozenset[int]
    changes: tuple[Change, ...]

    @property
    def failures(self) -> int:
        """Changes that take cards away."""
        return sum(bool(change.lost) for change in self.changes)

    @property
    def gap_s(self) -> float:
        """Mean seconds between failures; the whole duration if there is none."""
        return self.duration_s / max(self.failures, 1)

    def cards(self) -> Iterator[tuple[float, frozenset[int]]]:
        """How long each set of cards was there: (seconds, cards)."""
        now, cards = 0.0, self.start
        for change in self.changes:
            yield change.time_s - now, cards
            now, cards = change.time_s, (cards - change.lost) | change.joined
        yield self.duration_s - now, cards


def poisson(gap_s: float, seed: int, duration_s: float | None = None, cards: int = CARDS) -> Trace:
    """One random card lost at a time, gaps exponential; each is there again after a repair."""
    duration_s = min(GAPS * gap_s, LONGEST_S) if duration_s is None else duration_s
    draw = random.Random(f"{gap_s} {seed}")
    moments: list[tuple[float, int, bool]] = []
    now = draw.expovariate(1 / gap_s)
    back: list[tuple[float, int]] = []
    there = set(range(cards))
    while now < duration_s:
        for when, card in sorted(back):
            if when <= now:
                there.add(card)
                back.remove((when, card))
        if there:
            card = draw.choice(sorted(there))
            there.remove(card)
            moments.append((now, card, False))
            again = now + draw.expovariate(1 / REPAIR_S)
            back.append((again, card))
            moments.append((again, card, True))
        now += draw.expovariate(1 / gap_s)
    changes = _changes((time, card, comes) for time, card, comes in moments if time < duration_s)
    return Trace(f"poisson-{gap_s:g}s-{seed}", duration_s, frozenset(range(cards)), changes)


def bamboo(path: Path) -> Trace:
    """Lines ``milliseconds,add or remove,node``."""
    moments: list[tuple[float, int, bool]] = []
    numbers: dict[str, int] = {}
    with path.open(newline="") as file:
        for ms, what, node in csv.reader(file):
            if what not in ("add", "remove"):
                raise ValueError(f"{path} has {what!r} where add or remove is expected")
            card = numbers.setdefault(node, len(numbers))
            moments.append((float(ms) / 1e3, card, what == "add"))
    return _trace("bamboo-p3", moments, moments[-1][0])


def parcae(path: Path) -> Trace:
    """Lines ``[milliseconds, event, {"nodes": [...], "duration": ms}]``."""
    moments: list[tuple[float, int, bool]] = []
    end = 0.0
    for line in path.read_text().splitlines():
        ms, what, detail = json.loads(line)
        end = (ms + detail["duration"]) / 1e3
        for node in detail["nodes"]:
            moments.append((ms / 1e3, int(node.removeprefix("node-")), what == "add"))
    return _trace(f"parcae-{path.stem.split('_')[1]}", moments, end)


def availability(path: Path, name: str, cards: int = CARDS) -> Trace:
    """Lines ``date, time, count``: so many cards, at most ``cards``; a seeded draw says which."""
    draw = random.Random(name)
    counts: list[tuple[datetime, int]] = []
    for line in path.read_text().splitlines():
        date, time, number = (word.strip() for word in line.split(","))
        moment = datetime.fromisoformat(f"{date} {time}")
        if not counts or moment > counts[-1][0]:
            counts.append((moment, min(int(number), cards)))
    begin = counts[0][0]
    there: set[int] = set()
    moments: list[tuple[float, int, bool]] = []
    for moment, count in counts:
        seconds = (moment - begin) / timedelta(seconds=1)
        for card in draw.sample(sorted(there), max(len(there) - count, 0)):
            there.remove(card)
            moments.append((seconds, card, False))
        for card in sorted(set(range(cards)) - there)[: max(count - len(there), 0)]:
            there.add(card)
            moments.append((seconds, card, True))
    return _trace(name, moments, (counts[-1][0] - begin) / timedelta(seconds=1))


def read(folder: Path) -> tuple[Trace, ...]:
    """All traces of ``folder``; ``OSError`` or ``ValueError`` if one is not as expected."""
    found = [bamboo(folder / BAMBOO / "p3-trace.csv")]
    found += [parcae(path) for path in sorted((folder / PARCAE).glob("gpt-1.5b_*.txt"))]
    found.append(availability(folder / BAMBOO / "v100x1-east1c.txt", "bamboo-east1c"))
    if len(found) < 6:
        raise ValueError(f"{folder / PARCAE} has {len(found) - 2} of four traces gpt-1.5b_*.txt")
    return tuple(found)


def _trace(name: str, moments: Iterable[tuple[float, int, bool]], end: float) -> Trace:
    """What happens at time 0 is the start."""
    first, *rest = _changes(moments)
    if first.time_s > 0:
        raise ValueError(f"{name} has no cards at time 0")
    return Trace(name, end, first.joined - first.lost, tuple(c for c in rest if c.time_s < end))


def _changes(moments: Iterable[tuple[float, int, bool]]) -> tuple[Change, ...]:
    """Moments of single cards, by time; a card that comes and goes at once does neither."""
    lost: dict[float, set[int]] = {}
    joined: dict[float, set[int]] = {}
    for time, card, comes in sorted(moments, key=lambda moment: moment[0]):
        mine, other = (joined, lost) if comes else (lost, joined)
        if card in other.get(time, set()):
            other[time].remove(card)
        else:
            mine.setdefault(time, set()).add(card)
    times = sorted({*lost, *joined})
    changes = (Change(t, frozenset(lost.get(t, ())), frozenset(joined.get(t, ()))) for t in times)
    return tuple(change for change in changes if change.lost or change.joined)
