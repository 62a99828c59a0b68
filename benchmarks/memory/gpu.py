"""Everything that is measured on a GPU: ``python benchmarks/memory/gpu.py --folder SCRATCH``.

First the way to pinned host memory, out, in and both at once, alone and beside matrix products;
then the table of all arms, models and budgets of ``ithaca.swap.bench``, and the largest model that
trains at a cap of 20 GB. Needs torch and numpy. Not measured yet: the session itself refuses
models on a GPU, and its rows say so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ithaca.swap.bench.arms import GPU_ARMS, Limits
from ithaca.swap.bench.cells import Cell, fill, show
from ithaca.swap.bench.models import GPU, MODELS
from ithaca.swap.bench.rival import Rival, Setting

GB = 10**9


def link_speeds(size: int = 1 << 30, rounds: int = 5) -> dict[str, float]:
    """Bytes a second of one direction, by what ran; the best of ``rounds``.

    Args:
        size: bytes of a copy.
        rounds: repetitions.
    """
    device = torch.device("cuda")
    host_out, host_in = (torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    held_out, held_in = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    factor = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    streams = torch.cuda.Stream(), torch.cuda.Stream()

    def out() -> None:
        host_out.copy_(held_out, non_blocking=True)

    def back() -> None:
        held_in.copy_(host_in, non_blocking=True)

    def run(copies: tuple[Callable[[], None], ...], products: bool) -> float:
        best = 0.0
        for _ in range(rounds):
            torch.cuda.synchronize()
            if products:
                for _ in range(40):
                    torch.mm(factor, factor)
            began = time.perf_counter()
            for stream, copy in zip(streams, copies, strict=False):
                with torch.cuda.stream(stream):
                    copy()
            for stream in streams:
                stream.synchronize()
            best = max(best, size / (time.perf_counter() - began))
        torch.cuda.synchronize()
        return best

    kinds = {"out": (out,), "in": (back,), "both": (out, back)}
    alone = {name: run(copies, False) for name, copies in kinds.items()}
    beside = {f"{name} beside products": run(copies, True) for name, copies in kinds.items()}
    return alone | beside


def largest(folder: Path, cap: int, arm: str) -> dict[str, object]:
    """The most memory that ``arm`` trains with under ``cap`` bytes, as a multiple of it.

    Tries the models from the smallest to the largest; what a model takes without memory saving is
    measured on the same GPU.
    """
    best: dict[str, object] = {"arm": arm, "cap": cap, "model": None, "factor": 0.0}
    for model in GPU:
        with Rival(Setting(model.name, "nothing", Limits(cap, folder), "cuda")) as free:
            unlimited = free.step()
        with Rival(Setting(model.name, arm, Limits(cap, folder), "cuda")) as rival:
            taken = rival.step()
        fits = not taken.refused and taken.peak_bytes <= cap
        factor = unlimited.peak_bytes / cap
        if fits and factor > float(str(best["factor"])):
            best |= {"model": model.name, "factor": factor, "seconds": taken.seconds}
            best |= {"slowdown": taken.seconds / unlimited.seconds if unlimited.seconds else None}
    return best


def main() -> int:
    """Runs the suite of tests, then all measurements; writes into ``docs/results`` by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS))
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
    for rows in fill(path, cells, GPU_ARMS, given.folder, given.rounds):
        print(show(rows))
        sys.stdout.flush()
    for arm in ("ours", "full checkpointing", "offload"):
        print(json.dumps(largest(given.folder, 20 * GB, arm)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
