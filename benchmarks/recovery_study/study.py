"""The study cell by cell: one system on one trace, or one lost card."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recovery_study import job, traces
from benchmarks.recovery_study.baselines.ours import Proposals
from benchmarks.recovery_study.cluster import CARDS
from benchmarks.recovery_study.layouts import Layouts
from benchmarks.recovery_study.memory import rejected
from benchmarks.recovery_study.run import Progress
from benchmarks.recovery_study.sheet import Sheet
from benchmarks.recovery_study.systems import SYSTEMS
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World

COLUMNS = (
    "model",
    "numerics",
    "trace",
    "system",
    "cards",
    "failures",
    "samples_per_s",
    "ideal_samples_per_s",
    "of_ideal",
    "paused_s",
    "rollbacks",
    "answers",
    "kind",
)
KEY = COLUMNS[:4]
SINGLE = "single"
"""Traces of this name lose one card and say what the step is afterwards."""

SINGLE_S = 3600.0

LAST = ("fixed-reroute", "clairvoyant")
"""Systems that are run behind all others: they take long and matter least."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one row is about."""

    model: str
    numerics: str
    trace: Trace
    system: str

    @property
    def key(self) -> tuple[str, ...]:
        """As in the file."""
        return self.model, self.numerics, self.trace.name, self.system


def single(card: int) -> Trace:
    """All cards, and after a minute one less, for an hour."""
    lost = (Change(60.0, frozenset({card})),)
    return Trace(f"{SINGLE}-{card}", SINGLE_S, frozenset(range(CARDS)), lost)


def cells(folder: Path, seeds: Sequence[int] = (0,)) -> Iterator[Cell]:
    """All cells, those that take least time first."""
    real = traces.read(folder)
    poisson = [traces.poisson(gap, seed) for gap in reversed(traces.GAPS_S) for seed in seeds]
    known = sorted([*real, *poisson], key=lambda trace: len(trace.changes))
    for card in range(CARDS):
        yield Cell("gpt-1.5b", "fast", single(card), "ours")
    for system in ("", *LAST):
        for trace in known:
            for name in [system] if system else [name for name in SYSTEMS if name not in LAST]:
                yield Cell("gpt-1.5b", "fast", trace, name)
    for trace in known:
        yield Cell("gpt-1.5b", "exact", trace, "ours")


def study(
    folder: Path, wanted: Iterable[Cell], sheet: Sheet, layouts: Path
) -> Generator[str, None, None]:
    """Run the cells that are not in ``sheet`` yet; yields a line about each."""
    worlds: dict[tuple[str, str], World] = {}
    proposals: dict[tuple[str, str, str], Proposals] = {}
    for cell in wanted:
        if cell.key in sheet:
            continue
        name = (cell.model, cell.numerics)
        if name not in worlds:
            known = Layouts(layouts, *name)
            exact = cell.numerics == "exact"
            model = job.read(folder, cell.model)
            if refused := rejected(model):
                raise ValueError(
                    f"the memory model refuses layouts that have been measured: "
                    f"{', '.join(map(str, refused))}; it is wrong"
                )
            worlds[name] = World(model, exact=exact, layouts=known)
        shared = (*name, cell.trace.name)
        if shared not in proposals:
            proposals = {shared: Proposals()}
        began = time.perf_counter()
        row = row_of(cell, worlds[name], proposals[shared])
        sheet.add(row)
        took = time.perf_counter() - began
        yield f"{' '.join(cell.key):48s} {row['samples_per_s']:>8s} samples/s  ({took:.1f} s)"


def row_of(cell: Cell, world: World, proposals: Proposals) -> dict[str, str]:
    """The row of one cell."""
    trace = cell.trace
    progress = SYSTEMS[cell.system](world, trace, proposals)
    samples = world.job.micro_batches * progress.steps / trace.duration_s
    ideal = ideal_samples_per_s(world, trace)
    if trace.name.startswith(SINGLE):
        # The gap behind the recovery, without the pause.
        samples = world.job.micro_batches / progress.deployment.step_s
        ideal = _throughput(world, CARDS)
    return {
        "model": cell.model,
        "numerics": cell.numerics,
        "trace": trace.name,
        "system": cell.system,
        "cards": f"{_mean_cards(trace):.2f}",
        "failures": str(trace.failures),
        "samples_per_s": f"{samples:.3f}",
        "ideal_samples_per_s": f"{ideal:.3f}",
        "of_ideal": f"{samples / ideal:.4f}",
        "paused_s": f"{sum(a.deployment.pause_s for a in progress.answers):.1f}",
        "rollbacks": str(sum(a.deployment.rolled_back for a in progress.answers)),
        "answers": answers(progress),
        "kind": "simulated",
    }


def answers(progress: Progress) -> str:
    """How often each strategy was the answer."""
    found = Counter(answer.deployment.strategy for answer in progress.answers[1:])
    return " ".join(f"{name}:{count}" for name, count in sorted(found.items()))


def ideal_samples_per_s(world: World, trace: Trace) -> float:
    """The best known layout for the cards that are there, at every moment, for nothing."""
    done = sum(seconds * _throughput(world, len(cards)) for seconds, cards in trace.cards())
    return done / trace.duration_s


def _throughput(world: World, cards: int) -> float:
    """More cards never count for less: the best of all numbers up to ``cards``."""
    plans = (world.best(number) for number in (cards, cards - 1, cards - 2))
    return max((world.throughput(plan) for plan in plans if plan is not None), default=0.0)


def _mean_cards(trace: Trace) -> float:
    return sum(seconds * len(cards) for seconds, cards in trace.cards()) / trace.duration_s
