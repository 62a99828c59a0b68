"""What watching costs: ours against torch.profiler, in time and in instructions.

``python benchmarks/memory/observer.py [--callgrind]``. Forward and backward of the same model, no
memory saving in force: without anything, with a session that has room for all, and with
torch.profiler in its three modes. Rounds take turns; medians of pairs. With ``--callgrind`` one
step of every arm is counted in a process under valgrind, in instructions, which do not depend on
the load of the machine; it needs valgrind with its headers, and a C++ compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ithaca.swap import allocator
from ithaca.swap.bench.models import Llama, Model, Stack
from ithaca.swap.session import MemorySession

SMALL = Model("2 layers h256 s128 b8", lambda _: Llama(256, 688, 4, 4), 2, (8, 128, 256))
LARGE = Model("h512 L8", lambda _: Llama(512, 1376, 8, 8), 8, (4, 256, 512))
# The same operators as the first, and as many saved tensors in our care, on less to compute.
SHORT = Model("2 layers h256 s16 b4", lambda _: Llama(256, 688, 4, 4), 2, (4, 16, 256))
TINY = Model("2 layers h16", lambda _: Llama(16, 32, 2, 2), 2, (1, 8, 16))
MODELS = {model.name: model for model in (SMALL, LARGE, SHORT, TINY)}
PROFILERS: dict[str, dict[str, Any]] = {
    "profiler": {},
    "profiler, shapes and memory": {"record_shapes": True, "profile_memory": True},
    "profiler, stacks": {"with_stack": True},
}
ARMS = ("nothing", "observer", "session", *PROFILERS)
WARM_UP, STEPS = 3, 5
"""Steps of an arm before those that count: then a session has its plan, and caches are full."""
# What tells callgrind where to begin and to end.
MARKS = """
#include <valgrind/callgrind.h>
extern "C" void begin() { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
extern "C" void end(const char* arm) {
  CALLGRIND_DUMP_STATS_AT(arm);
  CALLGRIND_STOP_INSTRUMENTATION;
}
"""
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


def timed(model: Model, rounds: int, names: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of a step by arm: in every round the median of some steps of each."""
    allocator.install()
    device = torch.device("cpu")
    made, x = model.make(device), model.batch(0, device)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            with arm(name, made, x) as step:
                for _ in range(WARM_UP):
                    step()
                taken = [_seconds(step) for _ in range(STEPS)]
                if turn:
                    seconds[name].append(statistics.median(taken))
    return seconds


def _seconds(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


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


def counted(model: Model, names: Sequence[str], library: Path) -> None:
    """Under callgrind: marks one step of each arm; what else this process does is not counted."""
    torch.set_num_threads(1)
    allocator.install()
    device = torch.device("cpu")
    made, x = model.make(device), model.batch(0, device)
    marks = ctypes.CDLL(str(library))
    for name in names:
        with arm(name, made, x) as step:
            for _ in range(WARM_UP if name == "session" else 1):
                step()
            gc.collect()
            marks.begin()
            step()
            marks.end(name.encode())


def instructions(model: Model, names: Sequence[str]) -> dict[str, int]:
    """Instructions of one step by arm; ``RuntimeError`` with the tool's words if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "marks.cpp"), Path(folder, "marks.so")
        source.write_text(MARKS)
        _run("c++", "-O1", "-shared", "-fPIC", str(source), "-o", str(library))
        _run(
            *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
            *(f"--callgrind-out-file={folder}/out", sys.executable, __file__),
            *("--counted", model.name, str(library), *names),
            # Without a seed of its own, sets of strings have another order in every process.
            environment={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "0"},
        )
        found = {}
        for dump in Path(folder).glob("out.*"):
            text = dump.read_text()
            label = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
            total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
            if label is not None and total is not None:
                found[label[1]] = int(total[1])
        return {name: found[name] for name in names}


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")


def show_times(model: Model, rounds: int, names: Sequence[str]) -> None:
    """A line for each arm: nanoseconds added to an operator, and the share of a step."""
    seconds, count = timed(model, rounds, names), operators(model)
    free = seconds["nothing"]
    print(f"{model.name}: {count} operators, {statistics.median(free) * 1e3:.2f} ms a step")
    for other in names[1:]:
        added = statistics.median(b - a for a, b in zip(free, seconds[other], strict=True))
        share = statistics.median(b / a for a, b in zip(free, seconds[other], strict=True)) - 1
        print(f"  {other:<28} {added / count * 1e9:9.0f} ns an operator  {share:+8.2%}")


def show_instructions(model: Model, names: Sequence[str]) -> None:
    """Likewise, in instructions."""
    found, count = instructions(model, names), operators(model)
    free = found["nothing"]
    print(f"{model.name}: {count} operators, {free:,} instructions a step")
    for other in names[1:]:
        added = found[other] - free
        print(f"  {other:<28} {added / count:9.0f} an operator  {added / free:+8.3%}")


def main() -> int:
    """Prints a line for each arm and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--callgrind", action="store_true", help="count, in place of timing")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=[*MODELS])
    parser.add_argument("--arms", nargs="*", choices=ARMS[1:], default=[*ARMS[1:]])
    parser.add_argument("--counted", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.counted:
        name, library, *names = given.counted
        counted(MODELS[name], names, Path(library))
        return 0
    if given.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind needs valgrind, which is not installed here")
    for name in given.models:
        if given.callgrind:
            show_instructions(MODELS[name], ["nothing", *given.arms])
        else:
            show_times(MODELS[name], given.rounds, ["nothing", *given.arms])
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
