"""``python -m benchmarks.graphs COMMAND DATA``: what graph networks tell apart, and how fast.

exact, adaptive: colour refinement; choose, brec: trained; speed: the searches against networkx.

DATA has brec/ (BREC's raw .npy files), sr/ (graph6), exp.txt and zinc/. Rows that a result file
has already are not computed again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.graphs import exact
from benchmarks.graphs.brec import CATEGORIES, PAIRS, read_brec
from benchmarks.graphs.development import development_pairs
from benchmarks.graphs.protocol import Outcome, Setting, run_pair
from benchmarks.graphs.realised import KEY, SEEDS, outstanding, realise, table
from benchmarks.graphs.speed import many, speeds
from benchmarks.recovery_study.sheet import Sheet

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def show_exact(folder: Path) -> int:
    """Prints what colour refinement tells apart; 1 if that is not what is known."""
    wrong = 0
    for name, found, there in exact.families(folder):
        wrong += found != there
        print(f"{name}: {found} of {there}", flush=True)
    print(f"BREC by category: {', '.join(CATEGORIES)}")
    for name, counts, known in exact.brec(folder):
        wrong += counts != known
        print(f"{name}: {' '.join(map(str, counts))} = {sum(counts)}; known {sum(known)}")
    for name, graphs, differ in exact.copies(folder, seed=0):
        wrong += differ > 0
        print(f"relabelled copies of {name}: {differ} of {graphs} told apart", flush=True)
    return int(wrong > 0)


def show_adaptive(folder: Path) -> int:
    """Prints what paths as long as the budget allows tell apart in BREC."""
    pairs, deeper = read_brec(folder / "brec"), []
    for pair, before, apart in exact.adaptive(pairs):
        deeper.append(apart)
        if not before:
            print(f"pair {pair.number} {pair.category}: {apart}", flush=True)
    counts = exact.by_category(pairs, deeper)
    print(f"BREC by category: {', '.join(CATEGORIES)}")
    print(f"paths <= {exact.DEEPEST.path} within the budget, cycles <= {exact.DEEPEST.cycle}: "
          f"{' '.join(map(str, counts))} = {sum(counts)}")  # fmt: skip
    return 0


def show_choice(folder: Path) -> int:
    """Prints how settings do on pairs that are not in BREC."""
    base = Setting()
    pairs = development_pairs(folder)
    settings = [
        base,
        replace(base, double=False),
        replace(base, epochs=0),
        replace(base, epochs=20),
        replace(base, lr=1e-3),
        replace(base, dim=16),
        replace(base, num_layers=4),
    ]
    for setting in settings:
        outcomes = [run_pair(pair, setting, seed=1) for pair in pairs]
        passed = Counter(outcome.category for outcome in outcomes if outcome.passed)
        worst = max(outcome.alike for outcome in outcomes)
        seconds = sum(outcome.seconds for outcome in outcomes)
        print(
            f"{setting}: {sum(passed.values())} of {len(pairs)} {dict(passed)}, "
            f"reliability at most {worst:.3g}, {seconds:.0f} s",
            flush=True,
        )
    return 0


def run_brec(arguments: argparse.Namespace) -> int:
    """Runs what is missing and prints the table."""
    sheet = Sheet(arguments.csv, Outcome.columns(), KEY)
    numbers = arguments.pairs or range(PAIRS)
    jobs = outstanding(arguments.data, sheet, arguments.seeds, Setting(), numbers)
    for done, outcome in enumerate(realise(jobs, sheet, arguments.workers), 1):
        print(
            f"{done}/{len(jobs)} seed {outcome.seed} pair {outcome.pair} {outcome.category}: "
            f"{'passed' if outcome.passed else 'failed'} T2 {outcome.apart:.4g} "
            f"reliability {outcome.alike:.4g}, {outcome.seconds} s",
            flush=True,
        )
    print(table(sheet.rows))
    return 0


def main() -> int:
    """The command that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graphs", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("command", choices=["exact", "adaptive", "choose", "brec", "speed"])
    parser.add_argument("data", type=Path, help="has brec/, sr/ and exp.txt")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--pairs", type=int, nargs="*", help="only these, of 0..399")
    parser.add_argument("--workers", type=int, default=2, help="0: in this process, without Ray")
    parser.add_argument("--molecules", type=Path, help="SMILES, for the speed of many")
    parser.add_argument("--csv", type=Path, default=RESULTS / "brec.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if arguments.command == "exact":
            return show_exact(arguments.data)
        if arguments.command == "adaptive":
            return show_adaptive(arguments.data)
        if arguments.command == "speed":
            for speed in speeds(arguments.data):
                print(speed, flush=True)
            if arguments.molecules:
                print(many(arguments.molecules))
            return 0
        if arguments.command == "choose":
            return show_choice(arguments.data)
        return run_brec(arguments)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
