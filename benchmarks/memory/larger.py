"""Four times the memory that there is: ``python benchmarks/memory/larger.py --folder SCRATCH``.

Two jobs, each under a hard limit of the operating system on the data of its process (RLIMIT_DATA:
what it had once torch was imported, and the cap on top), with a memory session inside of it:

- *activations*: blocks whose saved tensors are several caps;
- *states*: parameters, optimizer state and gradients alone are at least 1.2 caps.

Each trains without any limit too. What it then takes at most is at least four caps; the weights
are the same in the end. Negative control: under the same limit, without a session, neither job
gets through its first step.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ithaca.swap import allocator
from ithaca.swap.bench.models import Llama, Model
from ithaca.swap.bench.rival import digest_of
from ithaca.swap.session import MemorySession

MIB = 1 << 20
# Of the cap, what the session may use; the rest is for Python, stacks of threads and malloc.
SHARE = 0.85
# From this size on, malloc takes memory from the system and gives it back, instead of keeping it.
MAPPED = 1 << 16


@dataclass(frozen=True)
class Job:
    """A model that is too large for ``cap`` bytes."""

    name: str
    cap: int
    width: int
    layers: int
    batch: int
    length: int
    steps: int = 3

    @property
    def model(self) -> Model:
        """For the benchmark's trainer."""
        width, hidden = self.width, self.width * 43 // 16
        heads = max(1, width // 64)
        shape = (self.batch, self.length, width)
        return Model(self.name, lambda _: Llama(width, hidden, heads, heads), self.layers, shape)


JOBS = (
    Job("activations", 192 * MIB, 256, 6, 24, 256),
    Job("states", 192 * MIB, 384, 9, 9, 256),
)
SMALL = (
    Job("activations", 64 * MIB, 128, 6, 20, 256, steps=2),
    Job("states", 64 * MIB, 192, 12, 4, 272, steps=2),
)


@dataclass(frozen=True)
class Ran:
    """What a job took.

    Args:
        peak_bytes: of torch's allocator.
        fixed_bytes: parameters, optimizer state and gradients.
        data_bytes: private memory of the process above what it had after its imports, at the end.
        seconds: of a step, the median.
        digest: of the parameters.
        disk_bytes: written.
    """

    peak_bytes: int
    fixed_bytes: int
    data_bytes: int
    seconds: float
    digest: str
    disk_bytes: int = 0


def data_bytes() -> int:
    """What RLIMIT_DATA is compared with."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def train(job: Job, folder: Path | None, cap: int | None, steps: int) -> Ran:
    """Trains in this process, under a hard ``cap`` and in a session, if these are given."""
    ctypes.CDLL("libc.so.6").mallopt(-3, MAPPED)
    torch.set_num_threads(1)
    importlib.import_module("torch._dynamo")  # an optimizer imports it when it is made
    baseline = data_bytes()
    if cap is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (baseline + cap, resource.RLIM_INFINITY))
    allocator.install()
    device = torch.device("cpu")
    model = job.model.make(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    times: list[float] = []
    written = 0

    def loop(memory: MemorySession | None) -> None:
        for step in range(steps):
            began = time.perf_counter()
            optimizer.zero_grad()
            model(job.model.batch(step, device)).square().mean().backward()
            optimizer.step()
            if memory is not None:
                memory.step()
            times.append(time.perf_counter() - began)

    if folder is None:
        loop(None)
    else:
        budget = int((cap or job.cap) * SHARE)
        with MemorySession(model, budget, folder=folder, limit="16GiB", threads=1) as memory:
            loop(memory)
            written = memory.report().counters["disk_written"]
            peak = allocator.usage().peak
            # Training is over. The session ends by bringing all state back, for whoever wants it.
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    state = [part for entry in optimizer.state.values() for part in entry.values()]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    fixed = sum(part.nbytes for part in (*model.parameters(), *state, *grads))
    return Ran(
        peak if folder is not None else allocator.usage().peak,
        fixed,
        data_bytes() - baseline,
        sorted(times)[len(times) // 2],
        digest_of(model),
        written,
    )


def apart(job: Job, folder: Path | None, *, capped: bool) -> Ran | str:
    """:func:`train` in a process of its own; the last line of its error if it does not finish."""
    words = [json.dumps(asdict(job)), str(folder or ""), str(int(capped))]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *words],
        capture_output=True,
        text=True,
        timeout=1800,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    return Ran(**json.loads(done.stdout.splitlines()[-1]))


def child(words: list[str]) -> None:
    """In the process of :func:`apart`."""
    job = Job(**json.loads(words[0]))
    folder = Path(words[1]) if words[1] else None
    ran = train(job, folder, job.cap if words[2] == "1" else None, job.steps)
    print(json.dumps(asdict(ran)))


def main() -> int:
    """Runs both jobs, and prints factors and slowdowns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where tensors are written to")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return 0
    if given.folder is None or not given.folder.is_dir():
        parser.error("--folder has to be a folder that exists")
    for job in SMALL if given.small else JOBS:
        free, capped = apart(job, None, capped=False), apart(job, given.folder, capped=True)
        alone = apart(job, None, capped=True)
        print(f"{job.name}: cap {job.cap / MIB:.0f} MiB; without a session under it: {alone}")
        if isinstance(free, str) or isinstance(capped, str):
            print(f"  did not finish: {free} | {capped}")
            continue
        print(
            f"  {free.peak_bytes / job.cap:.2f} caps at most without a limit, P + G "
            f"{free.fixed_bytes / job.cap:.2f}; under it {capped.peak_bytes / MIB:.0f} MiB, "
            f"{capped.disk_bytes / MIB:.0f} MiB written, {capped.seconds / free.seconds:.2f} x "
            f"the time, same weights: {free.digest == capped.digest}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
