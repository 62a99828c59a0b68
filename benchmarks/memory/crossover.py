"""Swap, mix or compute again: what is best at which link speed, simulated.

``python benchmarks/memory/crossover.py [--csv FILE]``. Nothing is measured here: the steps are
transformer blocks on paper, computed from shapes and assumed speeds, and every policy's plan is
run by the model of a step; beside it stands the lower bound. Cells that are in the file already
are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ithaca.swap.baseline import recompute_only, swap_only
from ithaca.swap.bound import lower_bound
from ithaca.swap.columns import Columns
from ithaca.swap.plan import Action, Plan
from ithaca.swap.policy import Refusal, decide
from ithaca.swap.published import Published
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link, Trace

RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
SHARES = (60, 40, 25, 15)
# Two cores at 50 GFLOP/s each in float32, twice that in bfloat16.
MODELS = {
    "h512 L8": Transformer(8, 512, 1376),
    "h256 L24": Transformer(24, 256, 688, sequence=128, batch=8),
    "bf16 h512 L8": Transformer(8, 512, 1376, itemsize=2, flop_per_s=2e11),
}
FIELDS = (
    "model", "GB_per_s", "budget_percent", "arm", "step_s", "slowdown", "stall_s", "recompute_s",
    "swapped_MiB", "recomputed_MiB", "peak_percent", "origin",
)  # fmt: skip


def published(trace: Trace, budget_bytes: int) -> Plan:
    """The published policy, with its smallest storage scaled from large models to these."""
    layers = sum(1 for replay in trace.replays if replay.recipe.value == "block")
    return Published(smallest_bytes=2**18, layers=layers).decide(trace, budget_bytes)


ARMS: dict[str, Callable[[Trace, int], Plan | Refusal]] = {
    "mixed": decide,
    "swap only": swap_only,
    "recompute only": recompute_only,
    "published": published,
}


@dataclass(frozen=True)
class Cell:
    """One model, link speed and budget, in percent of the activations."""

    model: str
    rate: float
    share: int

    @property
    def key(self) -> tuple[str, str, str]:
        """As it is found in the file."""
        return self.model, f"{self.rate:g}", str(self.share)

    def rows(self) -> Iterator[dict[str, str]]:
        """One row for each arm, and the bound."""
        link = Link("disk", self.rate * 1e9, self.rate * 1e9, 1e-4)
        trace = MODELS[self.model].trace([link])
        columns = Columns.of(trace)
        alone = float(columns.clock[-1])
        peak = int(columns.keep_all().max())
        fixed = trace.persistent_bytes + trace.gradient_bytes
        budget = fixed + (peak - fixed) * self.share // 100
        head = dict(zip(FIELDS[:3], self.key, strict=True)) | {"origin": "simulated"}
        for arm, policy in ARMS.items():
            plan = policy(trace, budget)
            if isinstance(plan, Refusal):
                yield head | {"arm": arm, "step_s": "refused"}
                continue
            yield head | {
                "arm": arm,
                "step_s": f"{plan.step_s:.6f}",
                "slowdown": f"{plan.step_s / alone:.4f}",
                "stall_s": f"{plan.stall_s:.6f}",
                "recompute_s": f"{plan.recompute_s:.6f}",
                "swapped_MiB": f"{plan.bytes_of(Action.SWAP) / 2**20:.1f}",
                "recomputed_MiB": f"{plan.bytes_of(Action.RECOMPUTE) / 2**20:.1f}",
                "peak_percent": f"{100 * (plan.peak_bytes - fixed) / (peak - fixed):.1f}",
            }
        least = lower_bound(trace, budget)
        assert least is not None
        yield head | {
            "arm": "lower bound",
            "step_s": f"{least.step_s:.6f}",
            "slowdown": f"{least.step_s / alone:.4f}",
            "swapped_MiB": f"{least.swapped_bytes / 2**20:.1f}",
            "recomputed_MiB": f"{least.recomputed_bytes / 2**20:.1f}",
        }


def known(path: Path) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """The cells of a file that are complete."""
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = row["model"], row["GB_per_s"], row["budget_percent"]
                found.setdefault(key, []).append(row)
    return {key: rows for key, rows in found.items() if len(rows) == len(ARMS) + 1}


def show(rows: list[dict[str, str]]) -> str:
    """A cell in a line: slowdown of each arm (! above the budget), and what the mixed plan does."""
    over = {row["arm"] for row in rows if float(row["peak_percent"] or 0) > int(rows[0][FIELDS[2]])}
    times = "  ".join(
        f"{row['arm']} {row['slowdown'] or row['step_s']:>7}{'!' * (row['arm'] in over)}"
        for row in rows
    )
    mixed = rows[0]
    name = f"{mixed['model']:13} {mixed['GB_per_s']:>4} GB/s {mixed['budget_percent']:>2} %"
    return f"{name}  {times}  (MiB {mixed['swapped_MiB']} / {mixed['recomputed_MiB']})"


def main() -> None:
    """All cells, one after another; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    done = known(arguments.csv) if arguments.csv else {}
    cells = [Cell(m, rate, share) for m in MODELS for rate in RATES for share in SHARES]
    table: list[dict[str, str]] = []
    for cell in cells:
        rows = done.get(cell.key) or [{**dict.fromkeys(FIELDS, ""), **row} for row in cell.rows()]
        table += rows
        print(show(rows))
        sys.stdout.flush()
        if arguments.csv:
            with arguments.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)


if __name__ == "__main__":
    main()
