"""What the cost table says of a budget, against steps.

``python -m benchmarks.memory.predicted --folder SCRATCH``

A session observes a model under one budget, and its table then tells how much longer a step takes
under others, which it has not seen. Trainings under these budgets take turns with one without a
session, each in a process of its own; the medians of their pairs are compared with the table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.recovery_study.sheet import Row, Sheet
from ithaca.swap.bench.arms import Limits
from ithaca.swap.bench.cells import budget_of
from ithaca.swap.bench.models import CPU, MODELS, WARM_UP
from ithaca.swap.bench.rival import Rival, Setting, with_budget

FIELDS = (
    *("model", "observed_percent", "percent", "GB_per_s", "rounds"),
    *("predicted", "measured", "error_percent"),
)
SEEN = 6
"""Steps of the session that observes, under its plan: what copies cost shows in them."""


def _ready(opened: ExitStack, setting: Setting) -> Rival:
    rival = opened.enter_context(Rival(setting))
    for _ in range(WARM_UP):
        rival.step()
    return rival


def compare(
    model: str, seen: int, unseen: Sequence[int], folder: Path, gb_per_s: float, rounds: int
) -> Iterator[Row]:
    """A row for each budget that was not seen, as in the file.

    Args:
        model: its name.
        seen: percent of the budget of the session that observes.
        unseen: likewise, of the others.
        folder: for the disk.
        gb_per_s: of the emulated link; 0 is the link as it is.
        rounds: pairs of steps.
    """
    limits = Limits(0, folder, bytes_per_s=int(gb_per_s * 1e9))
    setting = Setting(model, "nothing", limits)
    with ExitStack() as opened:
        free = opened.enter_context(Rival(setting))
        last = [free.step() for _ in range(WARM_UP)][-1]
        budgets = {percent: budget_of(last, percent) for percent in (seen, *unseen)}
        ours = Setting(model, "ours", limits)
        with Rival(with_budget(ours, budgets[seen])) as observer:
            for _ in range(WARM_UP + SEEN):
                observer.step()
            predicted = observer.slowdowns([budgets[percent] for percent in unseen])
        rivals = [_ready(opened, with_budget(ours, budgets[percent])) for percent in unseen]
        ratios: list[list[float]] = [[] for _ in unseen]
        for _ in range(rounds):
            base = free.step().seconds
            for own, rival in zip(ratios, rivals, strict=True):
                taken = rival.step()
                if not taken.refused:
                    own.append(taken.seconds / base)
    for percent, told, own in zip(unseen, predicted, ratios, strict=True):
        row = dict.fromkeys(FIELDS, "") | {
            "model": model,
            "observed_percent": str(seen),
            "percent": str(percent),
            "GB_per_s": f"{gb_per_s:g}",
            "rounds": str(rounds),
            "predicted": "" if told is None else f"{told:.3f}",
        }
        if told is None or not own:  # no plan, or refused
            yield row
            continue
        measured = statistics.median(own)
        error = (told / measured - 1) * 100
        yield row | {"measured": f"{measured:.3f}", "error_percent": f"{error:+.1f}"}


def main() -> int:
    """Measures what the file lacks, and prints a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where tensors are written to")
    parser.add_argument("--csv", type=Path, help="where the table is kept; default: in --folder")
    names = [model.name for model in CPU]
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=names)
    parser.add_argument("--seen", type=int, default=60, help="percent of the observed budget")
    parser.add_argument("--unseen", type=int, nargs="+", default=[80, 50, 30, 20])
    parser.add_argument("--gbps", type=float, nargs="+", default=[0.0], help="0: as it is")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error("--folder has to be a folder that exists")
    path = given.csv or given.folder / "memory_predicted.csv"
    sheet = Sheet(path, FIELDS, ("model", "GB_per_s", "percent"))
    for name in given.models:
        for speed in given.gbps:
            missing = [p for p in given.unseen if (name, f"{speed:g}", str(p)) not in sheet]
            if not missing:
                continue
            for row in compare(name, given.seen, missing, given.folder, speed, given.rounds):
                sheet.add(row)
                print(", ".join(f"{key} {part}" for key, part in row.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
