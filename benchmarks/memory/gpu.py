"""Everything that is measured on a GPU: ``python benchmarks/memory/gpu.py --folder SCRATCH``.

First the way to pinned host memory, out, in and both at once, alone and beside matrix products;
then the table of all arms, models and budgets of ``ithaca.swap.bench``, and models of several
times 20 GB under a cap of 20 GB. Needs torch and numpy; scipy for the bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from ithaca.swap.bench.arms import GPU_ARMS, Limits
from ithaca.swap.bench.cells import Cell, fill, show
from ithaca.swap.bench.link import link_speeds
from ithaca.swap.bench.models import GPU, LARGE, MODELS
from ithaca.swap.bench.rival import Rival, Setting
from ithaca.swap.estimate import estimate, shapes_of

GB = 10**9
# Of a model under the cap: the fourth step has its plan.
STEPS = 5


def unlimited_bytes(model: str) -> int:
    """What a step of a model would take without memory saving, by shapes alone; AdamW included."""
    case = MODELS[model]
    with torch.device("meta"):
        made = case.make(torch.device("meta"))
        batch = torch.empty(case.shape, dtype=case.dtype)
    found = estimate(made, shapes_of((batch,), {}))
    return found.unlimited_bytes + 2 * found.gradient_bytes


def largest(
    model: str, folder: Path, cap: int, arm: str, free_s: float | None
) -> dict[str, object]:
    """How ``arm`` trains a model that takes several times ``cap`` bytes, under ``cap``.

    Args:
        model: its name.
        folder: of the disk tier.
        cap: bytes.
        arm: its name.
        free_s: seconds of a step without memory saving; ``None`` if the GPU is too small for it.
    """
    with Rival(Setting(model, arm, Limits(cap, folder), "cuda")) as rival:
        steps = [rival.step()]
        while len(steps) < STEPS and not steps[-1].refused:
            steps.append(rival.step())
    last = steps[-1]
    return {
        "model": model,
        "arm": arm,
        "cap": cap,
        "times_the_cap": round(unlimited_bytes(model) / cap, 2),
        "peak": max(step.peak_bytes for step in steps),
        "seconds": last.seconds,
        "slowdown": last.seconds / free_s if free_s else None,
        "refused": last.refused,
    }


def free_seconds(model: str, folder: Path) -> float | None:
    """Seconds of a step without memory saving; ``None`` if the GPU is too small for it."""
    with Rival(Setting(model, "nothing", Limits(0, folder), "cuda")) as rival:
        steps = [rival.step() for _ in range(2)]
    return None if steps[-1].refused else steps[-1].seconds


def main() -> int:
    """Runs the suite of tests, then all measurements; writes into ``docs/results`` by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS))
    parser.add_argument("--arms", nargs="+", choices=GPU_ARMS, default=GPU_ARMS)
    parser.add_argument("--budgets", nargs="+", type=int, default=[100, 60, 40, 25, 15])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-tests", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    if not given.no_tests:
        suite = [sys.executable, "-m", "pytest", "-c", "tests/gpu/pytest.ini", "tests/gpu"]
        if subprocess.run([*suite, "--rootdir=.", "--confcutdir=tests/gpu"]).returncode != 0:
            return 1
    speeds = link_speeds()
    facts = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "link": speeds}
    (given.results / "memory_gpu_link.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))
    models = given.models or [model.name for model in GPU]
    cells = [Cell(model, percent, device="cuda") for model in models for percent in given.budgets]
    path = given.results / "memory_gpu.csv"
    for rows in fill(path, cells, tuple(given.arms), given.folder, given.rounds):
        print(show(rows))
        sys.stdout.flush()
    for model in LARGE:
        free_s = free_seconds(model.name, given.folder)
        for arm in ("ours", "full checkpointing", "offload"):
            print(json.dumps(largest(model.name, given.folder, 20 * GB, arm, free_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
