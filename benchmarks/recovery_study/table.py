"""The tables of the study, from the rows of its file: Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from benchmarks.recovery_study.cluster import CARDS
from benchmarks.recovery_study.sheet import Row
from benchmarks.recovery_study.study import SINGLE

HINDSIGHT = ("clairvoyant", "fixed-reroute", "fixed-reshape", "ours", "ours-background")
"""Runs over the same candidates; the best of them is the clairvoyant bound."""

FIXED = ("fixed-reroute", "fixed-reshape", "checkpoint-tuned")


INTRODUCTION = """\
# Recovery on 32 cards, simulated

Written by `python -m benchmarks.recovery_study DATA` from `recovery_study.csv`; every figure is
simulated. GPT-1.5B on V100 cards of 16 GiB at 10 Gb/s, calibrated on measured steps; failures and
joins of published spot traces and of Poisson processes. What a system is, what is fair between
them, and which constants come from where: decisions 0046 and 0047.

The *ideal* has the best known layout for the cards that are there, at every moment and for nothing;
no system can reach it. *published* baselines decide by their published rules, *tuned* ones see our
calibrated profile and know the mean gap between failures. `ours` is `recovery.decide`; it knows
only what has happened. `fixed-*` is ours with one strategy.

"""


def page(rows: Sequence[Row]) -> str:
    """All tables under a few words."""
    return INTRODUCTION + tables(rows)


def tables(rows: Sequence[Row]) -> str:
    """What the file shows so far; empty if there is nothing."""
    fast = [row for row in rows if row["numerics"] == "fast"]
    traces = [row for row in fast if not row["trace"].startswith(SINGLE)]
    parts = [list(_singles(fast)), list(_traces(traces)), list(_goals(traces))]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _singles(rows: Sequence[Row]) -> Iterator[str]:
    gaps = [1 - float(row["of_ideal"]) for row in rows if row["trace"].startswith(SINGLE)]
    if gaps:
        yield "| one of 32 cards lost, simulated | mean | worst |"
        yield "|---|---|---|"
        yield f"| gap to failure-free ({len(gaps)} cards) | {mean(gaps):.2%} | {max(gaps):.2%} |"
        yield f"| ideal, 1/{CARDS} | {1 / CARDS:.2%} | {1 / CARDS:.2%} |"


def _traces(rows: Sequence[Row]) -> Iterator[str]:
    names = list(dict.fromkeys(row["trace"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    if not names:
        return
    found = {(row["trace"], row["system"]): row for row in rows}
    yield f"| part of the ideal, simulated | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for label, column in (("cards, mean", "cards"), ("failures", "failures")):
        first = [next(row for row in rows if row["trace"] == name) for name in names]
        yield f"| {label} | {' | '.join(row[column] for row in first)} |"
    for system in systems:
        cells = [found.get((name, system)) for name in names]
        texts = [f"{float(row['of_ideal']):.3f}" if row else "" for row in cells]
        yield f"| {system} | {' | '.join(texts)} |"


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    """Ours against everybody else, over the traces that both have."""
    by_system: dict[str, dict[str, float]] = {}
    for row in rows:
        by_system.setdefault(row["system"], {})[row["trace"]] = float(row["samples_per_s"])
    ours = by_system.pop("ours", {})
    if not ours:
        return
    yield "| ours over, simulated | traces | mean throughput | least on a trace | most |"
    yield "|---|---|---|---|---|"
    for system, theirs in by_system.items():
        yield _ratio(system, ours, theirs)
    for name, members in (("best fixed strategy", FIXED), ("clairvoyant bound", HINDSIGHT)):
        everybody = {**by_system, "ours": ours}
        there = [everybody[member] for member in members if member in everybody]
        best = {
            trace: max(runs[trace] for runs in there if trace in runs)
            for trace in ours
            if any(trace in runs for runs in there)
        }
        if best:
            yield _ratio(name, ours, best)


def _ratio(name: str, ours: dict[str, float], theirs: dict[str, float]) -> str:
    common = [trace for trace in ours if trace in theirs]
    ratios = [ours[trace] / theirs[trace] for trace in common]
    whole = mean(ours[trace] for trace in common) / mean(theirs[trace] for trace in common)
    return f"| {name} | {len(common)} | {whole:.3f} | {min(ratios):.3f} | {max(ratios):.3f} |"
