"""How small a budget may be: ``python -m benchmarks.memory.smallest --folder SCRATCH``.

The floor of a model is the largest sum, over the operators of a step, of parameters, gradients and
what that operator reads and makes. Optimizer state is no part of it here, although the floor may
count it: a budget that is enough for less is the stronger statement. For budgets of some shares of
the floor a training in a process of its own takes some steps; its parameters are compared with
those of one without a session. What is below the smallest share that is enough was refused, or is
not tried.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks.recovery_study.sheet import Row, Sheet
from ithaca.swap.bench.arms import Limits
from ithaca.swap.bench.models import CPU, MODELS, Model
from ithaca.swap.bench.rival import Rival, Setting, Taken, with_budget

MIB = 1 << 20
FIELDS = (
    *("model", "share", "floor_MiB", "budget_MiB", "peak_MiB", "steps", "slowdown"),
    *("moved_MiB", "same_bits", "refused"),
)


class Largest(TorchDispatchMode):
    """The most bytes of operands and results of one operator, without those that are held."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = {tensor.untyped_storage().data_ptr() for tensor in held}
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        seen = {}
        for part in tree_iter((args, kwargs, result)):
            if isinstance(part, Tensor):
                storage = part.untyped_storage()
                if storage.data_ptr() not in self.held:
                    seen[storage.data_ptr()] = storage.nbytes()
        self.most = max(self.most, sum(seen.values()))
        return result


def floor_of(model: nn.Module, x: Tensor) -> int:
    """Bytes of a step: parameters, buffers, gradients, the largest operator's other operands."""
    held = [*model.parameters(), *model.buffers()]
    largest = Largest(held)
    with largest:
        model(x).float().square().mean().backward()
    held += [p.grad for p in model.parameters() if p.grad is not None]
    return sum(tensor.nbytes for tensor in held) + largest.most


def floor_bytes(model: Model) -> int:
    """That of a model of the benchmark."""
    device = torch.device("cpu")
    return floor_of(model.make(device), model.batch(0, device))


def _trained(setting: Setting, steps: int) -> tuple[list[Taken], str]:
    with Rival(setting) as rival:
        taken = [rival.step()]
        while len(taken) < steps and not taken[-1].refused:
            taken.append(rival.step())
        return taken, "" if taken[-1].refused else rival.digest()


def rows(model: Model, shares: Iterable[float], folder: Path, steps: int) -> Iterator[Row]:
    """A row for each share of the floor, as in the file."""
    floor = floor_bytes(model)
    setting = Setting(model.name, "nothing", Limits(0, folder), threads=1)
    free, reference = _trained(setting, steps)
    usual = sorted(step.seconds for step in free)[steps // 2]
    for share in shares:
        budget = int(share * floor)
        ours = Setting(model.name, "ours", with_budget(setting, budget).limits, threads=1)
        taken, digest = _trained(ours, steps)
        last = taken[-1]
        row = dict.fromkeys(FIELDS, "") | {
            "model": model.name,
            "share": f"{share:g}",
            "floor_MiB": f"{floor / MIB:.1f}",
            "budget_MiB": f"{budget / MIB:.1f}",
        }
        if last.refused:
            yield row | {"refused": last.refused}
            continue
        keys = ("out_bytes", "in_bytes", "state_out_bytes", "state_in_bytes")
        moved = sum(last.counters[key] for key in keys)
        peak = max(step.peak_bytes for step in taken)
        slower = sorted(step.seconds for step in taken)[steps // 2] / usual
        yield row | {
            "peak_MiB": f"{peak / MIB:.1f}",
            "steps": str(steps),
            "slowdown": f"{slower:.2f}",
            "moved_MiB": f"{moved / MIB:.0f}",
            "same_bits": str(digest == reference),
        }


def main() -> int:
    """Tries the shares that the file lacks, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where tensors are written to")
    parser.add_argument("--csv", type=Path, help="where the table is kept; default: in --folder")
    names = [model.name for model in CPU]
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=names)
    parser.add_argument("--shares", nargs="+", type=float, default=[1.15, 1.0, 0.8])
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error("--folder has to be a folder that exists")
    path = given.csv or given.folder / "memory_smallest.csv"
    sheet = Sheet(path, FIELDS, ("model", "share"))
    for name in given.models:
        missing = [share for share in given.shares if (name, f"{share:g}") not in sheet]
        if not missing:
            continue
        for row in rows(MODELS[name], missing, given.folder, given.steps):
            sheet.add(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
