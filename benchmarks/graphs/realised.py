"""BREC as published: a model for each pair and seed, tested on relabelled copies; a farm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.graphs.brec import CATEGORIES, Pair, category_of, read_brec
from benchmarks.graphs.protocol import Outcome, Setting, run_pair
from benchmarks.recovery_study.sheet import Row, Sheet
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.farm import farm

KEY = ("seed", "pair")
SEEDS = tuple(range(100, 1001, 100))


@dataclass(frozen=True, eq=False)
class Job:
    """One pair under one seed."""

    pair: Pair
    setting: Setting
    seed: int


def run_job(job: Job) -> Outcome:
    """Its outcome."""
    return run_pair(job.pair, job.setting, job.seed)


def row_of(outcome: Outcome) -> Row:
    """The outcome as a row of the result file."""
    return {name: str(value) for name, value in asdict(outcome).items()}


def outcome_of(row: Row) -> Outcome:
    """What :func:`row_of` wrote."""
    return Outcome(
        int(row["seed"]),
        int(row["pair"]),
        row["category"],
        *(float(row[name]) for name in ("apart", "alike", "loss")),
        int(row["epochs"]),
        *(float(row[name]) for name in ("error", "seconds")),
    )


def outstanding(
    folder: Path, sheet: Sheet, seeds: Sequence[int], setting: Setting, numbers: Sequence[int]
) -> list[Job]:
    """The jobs that the result file lacks, seed by seed."""
    pairs = read_brec(folder / "brec")
    return [
        Job(pairs[number], setting, seed)
        for seed in seeds
        for number in numbers
        if (str(seed), str(number)) not in sheet
    ]


def realise(jobs: Sequence[Job], sheet: Sheet, workers: int) -> Iterator[Outcome]:
    """Runs the jobs and keeps every outcome at once; without workers, in this process."""
    if not workers:
        for job in jobs:
            outcome = run_job(job)
            sheet.add(row_of(outcome))
            yield outcome
        return
    root = Path(__file__).parents[2]
    with Cluster.start(workers, paths=[root]) as cluster:
        for _, outcome in farm(cluster, run_job, jobs):
            sheet.add(row_of(outcome))
            yield outcome


def table(rows: Sequence[Row]) -> str:
    """Pairs that passed both tests, by category and seed, and over the seeds whose pairs are all
    there: mean, minimum and union."""
    outcomes = [outcome_of(row) for row in rows]
    seeds = sorted({outcome.seed for outcome in outcomes})
    passed = {seed: {o.pair for o in outcomes if o.seed == seed and o.passed} for seed in seeds}
    tried = {seed: sum(o.seed == seed for o in outcomes) for seed in seeds}
    unreliable = {seed: sum(o.seed == seed and not o.reliable for o in outcomes) for seed in seeds}
    seconds = {seed: sum(o.seconds for o in outcomes if o.seed == seed) for seed in seeds}
    head = ["seed", *CATEGORIES, "passed", "of", "unreliable", "CPU s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    line = partial(_line, width=len(head))
    for seed in seeds:
        counts = _by_category(passed[seed])
        lines.append(
            line([seed, *counts, sum(counts), tried[seed], unreliable[seed], round(seconds[seed])])
        )
    whole = [seed for seed in seeds if tried[seed] == max(tried.values())]
    sizes = [len(passed[seed]) for seed in whole]
    union: set[int] = set().union(*(passed[seed] for seed in whole))
    lines.append(
        f"\n{len(whole)} whole seeds: mean {sum(sizes) / len(sizes):.1f}, minimum {min(sizes)}, "
        f"union {len(union)}; largest relative difference between copies "
        f"{max(o.error for o in outcomes):.1e}"
    )
    return "\n".join(lines)


def _by_category(pairs: set[int]) -> list[int]:
    return [sum(category_of(pair) == category for pair in pairs) for category in CATEGORIES]


def _line(values: Sequence[object], width: int) -> str:
    assert len(values) == width
    return f"| {' | '.join(map(str, values))} |"
