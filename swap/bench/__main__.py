"""All arms, models, budgets and links: ``python -m ithaca.swap.bench --folder SCRATCH``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ithaca.swap.bench.arms import ARMS, CPU_ARMS, GPU_ARMS
from ithaca.swap.bench.cells import Cell, fill, show
from ithaca.swap.bench.changes import changes
from ithaca.swap.bench.link import link_speeds
from ithaca.swap.bench.models import CPU, GPU, MODELS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m ithaca.swap.bench", description=__doc__)
    made.add_argument("--folder", type=Path, required=True, help="where tensors are written to")
    made.add_argument("--csv", type=Path, help="where the table is kept; default: in --folder")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--models", nargs="+", choices=tuple(MODELS), metavar="MODEL")
    made.add_argument("--arms", nargs="+", choices=tuple(ARMS), metavar="ARM")
    made.add_argument("--budgets", nargs="+", type=int, default=[100, 60, 40, 25, 15])
    made.add_argument("--gbps", nargs="+", type=float, default=[0.0], help="0: the link as it is")
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--untimed", action="store_true", help="all but times: for a busy machine")
    made.add_argument("--link", action="store_true", help="only the way to pinned host memory")
    made.add_argument("--changes", action="store_true", help="what changes cost, at 40 percent")
    return made


def main() -> int:
    """Measures what the file lacks."""
    given = parser().parse_args()
    if not given.folder.is_dir():
        sys.stderr.write(f"--folder {given.folder} is no folder that exists\n")
        return 2
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("--device cuda: torch finds no GPU here\n")
        return 2
    on_gpu = given.device == "cuda"
    if given.link and not on_gpu:
        sys.stderr.write("--link is for --device cuda: without a GPU there is no such way\n")
        return 2
    models = given.models or [model.name for model in (GPU if on_gpu else CPU)]
    if on_gpu:
        for name, speed in link_speeds().items():
            sys.stdout.write(f"{name:<24}{speed / 1e9:8.1f} GB/s\n")
    if given.link:
        return 0
    if given.changes:
        for model in models:
            for change in changes(model, 40, given.folder, given.device):
                sys.stdout.write(f"{model}: {change}\n")
                sys.stdout.flush()
        return 0
    cells = [
        Cell(model, percent, speed, given.device)
        for model in models
        for percent in given.budgets
        for speed in given.gbps
    ]
    arms = given.arms or (GPU_ARMS if on_gpu else CPU_ARMS)
    path = given.csv or given.folder / f"memory_{given.device}.csv"
    for rows in fill(path, cells, arms, given.folder, given.rounds, timed=not given.untimed):
        sys.stdout.write(show(rows) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
