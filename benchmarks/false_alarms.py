"""Clean runs in which nobody fails: how often is somebody suspected all the same?

``python benchmarks/false_alarms.py [--short 10000] [--long 300] [--csv FILE]``

Two runs on four workers (two pipelines of two stages), with the default ``detect``: many short
steps, and steps of at least a second while every core is kept busy by other processes. Any failure
that is noticed is a false alarm; the exit code is 1 if there was one.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from ithaca.runtime.config.load import load
from ithaca.runtime.events import Event, FailureNoticed, RunEnded, StepDone
from ithaca.runtime.run import train

BASE = {
    "layout": {"pipelines": 2, "stages": 2, "micro_batches": 4},
    "validation": {"every": 0},
    "report": {"timeline_every": 1000},
}
SHORT = {
    "dim": 32,
    "num_layers": 2,
    "num_heads": 2,
    "context": 16,
    "batch_size": 1,
}
LONG = {
    "dim": 192,
    "num_layers": 4,
    "num_heads": 4,
    "context": 128,
    "batch_size": 24,
}
LEAST_S = 1.0
"""What a long step must take at least."""


@dataclass(frozen=True)
class Row:
    """One run."""

    run: str
    steps: int
    median_step_s: float
    least_step_s: float
    false_alarms: int
    outcome: str
    load: float
    seconds: float


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but run."""
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def measure(name: str, steps: int, workload: dict[str, object], folder: Path) -> Row:
    """Run a job to its end and count what was noticed."""
    options = {"use": "lm", "sample": {"bytes": 0}, **workload}
    job = {**BASE, "name": name, "steps": steps, "workload": options}
    job["checkpoint"] = {"every": max(1, steps // 4)}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    noticed: list[FailureNoticed] = []
    seconds: list[float] = []
    ended: list[str] = []

    def listen(event: Event) -> None:
        match event:
            case FailureNoticed():
                noticed.append(event)
                print(f"false alarm: {event}", flush=True)
            case StepDone():
                seconds.append(event.seconds)
                if event.step % max(1, steps // 10) == 0:
                    print(f"{name}: step {event.step} of {steps}", flush=True)
            case RunEnded():
                ended.append(event.outcome)

    began = time.monotonic()
    train(load(path), folder / name, listeners=[listen])
    return Row(
        name,
        len(seconds),
        round(statistics.median(seconds), 4),
        round(min(seconds), 4),
        len(noticed),
        ended[-1] if ended else "none",
        round(os.getloadavg()[0], 1),
        round(time.monotonic() - began, 1),
    )


def keep(path: Path | None, row: Row) -> None:
    """Print ``row``, and append it to the file if there is one."""
    print(row, flush=True)
    if path is None:
        return
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(row)))
        if fresh:
            writer.writeheader()
        writer.writerow(asdict(row))


def main(arguments: Sequence[str] | None = None) -> int:
    """Both runs; 0 if nobody was suspected and both came to their end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", type=int, default=10_000, help="short steps; 0 for none")
    parser.add_argument("--long", type=int, default=300, help="steps of a second; 0 for none")
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    options = parser.parse_args(arguments)
    rows = list[Row]()
    with tempfile.TemporaryDirectory() as name:
        if options.short:
            rows.append(measure("short", options.short, SHORT, Path(name)))
            keep(options.csv, rows[-1])
        if options.long:
            with busy(2 * (os.cpu_count() or 1)):
                rows.append(measure("long", options.long, LONG, Path(name)))
            keep(options.csv, rows[-1])
    slow = [row for row in rows if row.run == "long" and row.median_step_s < LEAST_S]
    for row in slow:
        print(f"the steps of {row.run} took less than {LEAST_S:g} s: {row.median_step_s:g} s")
    clean = all(row.false_alarms == 0 and row.outcome == "finished" for row in rows)
    return 0 if clean and not slow else 1


if __name__ == "__main__":
    sys.exit(main())
