"""The table: every arm on every model, budget and link, a cell at a time, kept in a CSV file.

A cell that is in the file is not measured again. In a cell all arms take turns, a step each, in
an order that rotates; what is compared are pairs of steps of the same round. On a machine that
does something else too, cells can be filled without their times: a later call adds these.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ithaca.swap.bench.arms import FIXED_ARMS, Limits
from ithaca.swap.bench.models import MODELS
from ithaca.swap.bench.rival import Rival, Setting, Taken, with_budget

FIELDS = (
    *("model", "device", "budget_percent", "GB_per_s", "arm", "rounds", "median_s", "ratio"),
    *("budget_MiB", "peak_MiB", "fits", "moved_MiB", "copied_s", "waited_s", "replays"),
    *("hits_percent", "bound_s", "same_bits", "refused", "reserved_MiB"),
)
REFERENCE = "nothing"
# What a machine that is not quiet cannot say.
TIMES = ("median_s", "ratio", "copied_s", "waited_s", "bound_s")
MIB = 1 << 20


@dataclass(frozen=True)
class Cell:
    """What is compared: one row for each arm.

    Args:
        model: its name.
        percent: p of a budget P + G + p % (U - P - G).
        gb_per_s: of the emulated link, each way; 0 is the link as it is.
        device: cpu or cuda.
    """

    model: str
    percent: int
    gb_per_s: float = 0.0
    device: str = "cpu"

    @property
    def key(self) -> tuple[str, ...]:
        """As in the file."""
        return self.model, self.device, str(self.percent), f"{self.gb_per_s:g}"


def budget_of(free: Taken, percent: int) -> int:
    """P + G + p % (U - P - G), from a step without memory saving."""
    return free.fixed_bytes + (free.peak_bytes - free.fixed_bytes) * percent // 100


@dataclass
class _Measured:
    """What the arms of a cell did: their steps, their parameters behind them, the lower bound."""

    budget: int
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    bound: float | None = None


def measure(
    cell: Cell,
    arms: Sequence[str],
    folder: Path,
    rounds: int,
    threads: int = 2,
    *,
    timed: bool = True,
) -> list[dict[str, str]]:
    """The rows of a cell; if they are not ``timed``, an arm at a time, and without times.

    Raises:
        TimeoutError: an arm hangs.
        RuntimeError: the model does not train without memory saving.
    """
    limits = Limits(0, folder, bytes_per_s=int(cell.gb_per_s * 1e9))
    setting = Setting(cell.model, REFERENCE, limits, cell.device, threads)
    alone = cell.device == "cuda" or not timed
    arm_by_arm = partial(_one_by_one, bound=timed)
    done = (arm_by_arm if alone else _in_turns)(cell, setting, arms, rounds)
    return [
        _row(cell, arm, done.taken, done.budget, done.bound)
        | {"same_bits": _same_bits(done, arm)}
        | ({} if timed else dict.fromkeys(TIMES, ""))
        for arm in done.taken
    ]


def _warm_up(cell: Cell) -> int:
    return MODELS[cell.model].warm_up


def _free(cell: Cell, reference: Rival) -> int:
    """The budget of the cell, from steps of the arm without memory saving."""
    free = [reference.step() for _ in range(_warm_up(cell))][-1]
    if free.refused:
        raise RuntimeError(f"{cell.model} does not train: {free.refused}")
    return budget_of(free, cell.percent)


def _in_turns(cell: Cell, setting: Setting, arms: Sequence[str], rounds: int) -> _Measured:
    with ExitStack() as open_rivals:
        reference = open_rivals.enter_context(Rival(setting))
        done = _Measured(_free(cell, reference))
        setting = with_budget(setting, done.budget)
        rivals = {REFERENCE: reference}
        for arm in arms:
            if arm != REFERENCE:
                rival = Rival(replace(setting, arm=arm))
                rivals[arm] = open_rivals.enter_context(rival)
                for _ in range(_warm_up(cell)):
                    rival.step()
        done.taken = _take_turns(rivals, rounds)
        done.digests = {arm: rival.digest() for arm, rival in rivals.items()}
        if "ours" in rivals:
            done.bound = rivals["ours"].bound(_median(done.taken[REFERENCE]))
    return done


def _one_by_one(
    cell: Cell, setting: Setting, arms: Sequence[str], rounds: int, *, bound: bool = True
) -> _Measured:
    """On a GPU, whose memory is for one of them at a time. Its times do not drift as a CPU's do."""
    with Rival(setting) as reference:
        done = _Measured(_free(cell, reference))
        done.taken[REFERENCE] = [reference.step() for _ in range(rounds)]
        done.digests[REFERENCE] = reference.digest()
    setting = with_budget(setting, done.budget)
    for arm in arms:
        if arm == REFERENCE:
            continue
        with Rival(replace(setting, arm=arm)) as rival:
            steps: list[Taken] = []
            while len(steps) < _warm_up(cell) + rounds and not (steps and steps[-1].refused):
                steps.append(rival.step())
            refused = bool(steps[-1].refused)
            done.taken[arm] = steps[-1:] if refused else steps[_warm_up(cell) :]
            done.digests[arm] = "" if refused else rival.digest()
            if arm == "ours" and not refused and bound:
                done.bound = rival.bound(_median(done.taken[REFERENCE]))
    return done


def _median(steps: Sequence[Taken]) -> float:
    return statistics.median(step.seconds for step in steps)


def _take_turns(rivals: dict[str, Rival], rounds: int) -> dict[str, list[Taken]]:
    names = list(rivals)
    taken: dict[str, list[Taken]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(rivals[name].step())
    return taken


def _same_bits(done: _Measured, arm: str) -> str:
    """Empty for an arm that was refused: it ended in another step, or in the middle of one."""
    if not done.digests[arm] or any(taken.refused for taken in done.taken[arm]):
        return ""
    return str(done.digests[arm] == done.digests[REFERENCE])


def _row(
    cell: Cell,
    arm: str,
    taken: dict[str, list[Taken]],
    budget: int,
    bound: float | None,
) -> dict[str, str]:
    model, device, percent, speed = cell.key
    row = dict.fromkeys(FIELDS, "") | {
        "model": model,
        "device": device,
        "budget_percent": percent,
        "GB_per_s": speed,
        "arm": arm,
        "budget_MiB": f"{budget / MIB:.1f}",
    }
    steps = taken[arm]
    refused = next((step.refused for step in steps if step.refused), "")
    if refused:
        return row | {"refused": refused, "fits": "False"}
    pairs = zip(steps, taken[REFERENCE], strict=True)
    peak = max(step.peak_bytes for step in steps)
    last = steps[-1].counters
    looked = sum(step.hits + step.misses for step in steps)
    row |= {
        "rounds": str(len(steps)),
        "median_s": f"{statistics.median(step.seconds for step in steps):.4f}",
        "ratio": f"{statistics.median(own.seconds / free.seconds for own, free in pairs):.3f}",
        "peak_MiB": f"{peak / MIB:.1f}",
        "fits": str(peak <= budget),
        "reserved_MiB": f"{max(step.reserved_bytes for step in steps) / MIB:.1f}",
        "bound_s": f"{bound:.4f}" if bound is not None else "",
    }
    if arm not in FIXED_ARMS:
        moved = last.get("out_bytes", 0) + last.get("in_bytes", 0)
        moved += last.get("state_out_bytes", 0) + last.get("state_in_bytes", 0)
        busy = sum(last.get(f"disk_{way}_ns", 0) for way in ("write", "read"))
        busy += sum(last.get(f"host_{way}_ns", 0) for way in ("out", "in"))
        row |= {
            "moved_MiB": f"{moved / MIB:.0f}",
            "copied_s": f"{busy / 1e9:.2f}",
            "waited_s": f"{last.get('wait_ns', 0) / 1e9:.2f}",
            "replays": str(last.get("replays", 0)),
            "hits_percent": f"{100 * sum(s.hits for s in steps) / looked:.1f}" if looked else "",
        }
    return row


def known(path: Path) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """The cells in a file, by key; none if there is no file."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(tuple(row[name] for name in FIELDS[:4]), []).append(row)
    return found


def _is_whole(rows: Sequence[dict[str, str]], arms: Sequence[str], *, timed: bool) -> bool:
    have = {row["arm"] for row in rows if row["median_s"] or row["refused"] or not timed}
    return have.issuperset(arms)


def fill(
    path: Path,
    cells: Iterable[Cell],
    arms: Sequence[str],
    folder: Path,
    rounds: int,
    *,
    timed: bool = True,
) -> Iterator[list[dict[str, str]]]:
    """Measures the cells that ``path`` lacks; writes each one as it is done, and yields it.

    One that is there without times is measured again if it is to be ``timed``.
    """
    there = known(path)
    for cell in cells:
        if _is_whole(there.get(cell.key, ()), arms, timed=timed):
            continue
        rows = measure(cell, arms, folder, rounds, timed=timed)
        there[cell.key] = rows
        unfinished = path.with_suffix(".part")
        with unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for known_rows in there.values() for row in known_rows)
        unfinished.replace(path)
        yield rows


def show(rows: Sequence[dict[str, str]]) -> str:
    """A cell in a few lines: ratio to no memory saving; ! above the budget, x refused."""
    first = rows[0]
    head = f"{first['model']}, {first['budget_percent']} %, {first['GB_per_s']} GB/s"
    parts = []
    for row in rows:
        mark = "x" if row["refused"] else "" if row["fits"] == "True" else "!"
        bits = "" if row["same_bits"] in ("True", "") else " OTHER BITS"
        figures = f"{row['ratio'] or '-':>8}{mark:<2}{row['peak_MiB']:>9}"
        parts.append(f"  {row['arm']:<24}{figures}{bits}")
    return "\n".join([f"{head} ({first['budget_MiB']} MiB, {time.strftime('%H:%M')})", *parts])
