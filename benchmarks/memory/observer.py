"""What watching costs: ours against torch.profiler, in time and in instructions.

``python benchmarks/memory/observer.py [--callgrind]``. Forward and backward of the same model, no
memory saving in force: without anything, with a session that has room for all, and with
torch.profiler in its three modes. Rounds take turns; medians of pairs. With ``--callgrind`` every
arm runs under valgrind too, for two numbers of steps; the difference is instructions of a step,
which do not depend on the load of the machine.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ithaca.swap import allocator
from ithaca.swap.bench.models import Llama, Model, Stack
from ithaca.swap.session import MemorySession

SMALL = Model("2 layers h256 s128 b8", lambda _: Llama(256, 688, 4, 4), 2, (8, 128, 256))
LARGE = Model("h512 L8", lambda _: Llama(512, 1376, 8, 8), 8, (4, 256, 512))
TINY = Model("2 layers h16", lambda _: Llama(16, 32, 2, 2), 2, (1, 8, 16))
MODELS = {model.name: model for model in (SMALL, LARGE, TINY)}
PROFILERS: dict[str, dict[str, Any]] = {
    "profiler": {},
    "profiler, shapes and memory": {"record_shapes": True, "profile_memory": True},
    "profiler, stacks": {"with_stack": True},
}
ARMS = ("nothing", "observer", "session", *PROFILERS)
Step = Callable[[], None]


@contextmanager
def arm(name: str, model: Stack, x: torch.Tensor) -> Iterator[Step]:
    """A step of an arm; ``observer`` is the callback alone, ``session`` everything that we do."""

    def step() -> None:
        model.zero_grad()
        model(x).float().square().mean().backward()

    if name == "nothing":
        yield step
    elif name in PROFILERS:

        def profiled() -> None:
            with profile(activities=[ProfilerActivity.CPU], **PROFILERS[name]):
                step()

        yield profiled
    elif name == "observer":
        ops = allocator.operators()
        ops.memory_open(torch.device("cpu"), 1 << 40, 1 << 40, 0, "", 0, 1)
        ops.memory_observe(True)
        ops.memory_begin(False)
        try:
            yield step
        finally:
            ops.memory_close(True)
    else:
        with MemorySession(model, 1 << 40, recompute=False) as memory:

            def session() -> None:
                step()
                memory.step()

            yield session


def timed(model: Model, rounds: int) -> dict[str, list[float]]:
    """Seconds of steps by arm, one of each in every round."""
    allocator.install()
    device = torch.device("cpu")
    made, x = model.make(device), model.batch(0, device)
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in range(rounds + 1):
        for name in ARMS[turn % len(ARMS) :] + ARMS[: turn % len(ARMS)]:
            with arm(name, made, x) as step:
                step()  # what an arm does at its start does not count
                step()
                began = time.perf_counter()
                step()
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def operators(model: Model) -> int:
    """Operators that torch tells observers of in a step."""
    device = torch.device("cpu")
    made, x = model.make(device), model.batch(0, device)
    ops = allocator.operators()
    ops.memory_open(torch.device("cpu"), 1 << 40, 1 << 40, 0, "", 0, 1)
    try:
        ops.memory_observe(True)
        ops.memory_begin(False)
        made(x).float().square().mean().backward()
        return int(ops.memory_runs()[:, 4].sum())
    finally:
        ops.memory_close(True)


def repeat(name: str, model: Model, steps: int) -> None:
    """For callgrind: so many steps of an arm in this process."""
    torch.set_num_threads(1)
    allocator.install()
    device = torch.device("cpu")
    with arm(name, model.make(device), model.batch(0, device)) as step:
        for _ in range(steps):
            step()


def instructions(name: str, model: Model, few: int = 2, many: int = 6) -> float:
    """Instructions of one step of an arm; ``RuntimeError`` with valgrind's words if it fails."""

    def total(steps: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    *("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"),
                    *(sys.executable, __file__, "--repeat", name, model.name, str(steps)),
                ],
                capture_output=True,
                text=True,
                env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
            )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if found is None:
            raise RuntimeError(f"valgrind did not count: {done.stderr.strip()[-300:]}")
        return int(found[1])

    return (total(many) - total(few)) / (many - few)


def main() -> int:
    """Prints a line for each arm and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--callgrind", action="store_true")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=[*MODELS])
    parser.add_argument("--repeat", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.repeat:
        repeat(given.repeat[0], MODELS[given.repeat[1]], int(given.repeat[2]))
        return 0
    if given.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind needs valgrind, which is not installed here")
    for name in given.models:
        model = MODELS[name]
        seconds, count = timed(model, given.rounds), operators(model)
        free = seconds["nothing"]
        print(f"{name}: {count} operators, {statistics.median(free) * 1e3:.2f} ms a step")
        for other in ARMS[1:]:
            added = statistics.median(b - a for a, b in zip(free, seconds[other], strict=True))
            share = statistics.median(b / a for a, b in zip(free, seconds[other], strict=True)) - 1
            print(f"  {other:<28} {added / count * 1e9:9.0f} ns an operator  {share:+8.2%}")
    if given.callgrind:
        base = instructions("nothing", TINY)
        print(f"{TINY.name}: {base:.0f} instructions a step")
        for other in ARMS[1:]:
            print(f"  {other:<28} {instructions(other, TINY) - base:+.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
