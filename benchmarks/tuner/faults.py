"""``python -m benchmarks.tuner.faults SEARCH FOLDER``: a search with processes killed on purpose.

Undisturbed and disturbed take turns: every ``--every`` seconds a process that trains is killed, and
the coordinator once. Told are trials that began anew, processes lost, whether all losses that were
told of a step have the same bits, and the anytime mean of the best value. benchmarks/peers has the
same drill for Ray Tune.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.driver import Driver, search
from ithaca.tuners.loop.load import load_tune
from ithaca.tuners.loop.record import JOURNAL, LOG, Begun, Gone, Ran, read_lines
from ithaca.tuners.trial import Told


@dataclass
class Killer:
    """Kills a process that trains every ``every_s`` seconds, and the coordinator once."""

    every_s: float
    driver: Driver | None = None
    last_s: float = 0.0
    coordinator_at_s: float = float("inf")
    killed: int = 0

    def control(self, driver: Driver) -> None:
        """The driver of the search."""
        self.driver = driver

    def __call__(self, summary: Summary) -> None:
        """Strike when it is time."""
        assert self.driver is not None
        if summary.now_s > self.coordinator_at_s and self.driver.coordinator is not None:
            self.coordinator_at_s = float("inf")
            os.kill(self.driver.coordinator, signal.SIGKILL)
            return
        due = summary.now_s - self.last_s > self.every_s
        training = [n for n, _, step in summary.running if step > 0]
        if due and training and (pid := self.driver.pids.get(training[0])) is not None:
            self.last_s = summary.now_s
            self.killed += 1
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Result:
    """What one search left."""

    trials: int
    again: int
    lost: int
    equal: bool
    anytime: float
    best: float


def result(folder: Path, budget_s: float) -> Result:
    """From the journal and the log of a search."""
    _, events = read_journal(folder / JOURNAL)
    area, best, before = 0.0, None, 0.0
    for event in events:
        if isinstance(event, Told) and event.value is not None:
            area += (best if best is not None else event.value) * (event.now_s - before)
            best = event.value if best is None else min(best, event.value)
            before = event.now_s
    assert best is not None
    area += best * (budget_s - before)
    lines = list(read_lines(folder / LOG))
    losses: dict[tuple[int, int], float] = {}
    equal = True
    for line in lines:
        if isinstance(line, Ran):
            for step, loss in enumerate(line.losses, line.first):
                known = losses.setdefault((line.trial, step), loss)
                equal &= known == loss
    begun = [line for line in lines if isinstance(line, Begun)]
    return Result(
        trials=len({line.trial for line in begun}),
        again=sum(line.again for line in begun),
        lost=sum(isinstance(line, Gone) for line in lines),
        equal=equal,
        anytime=area / budget_s,
        best=best,
    )


def ours(path: Path, folder: Path, words: list[str], killer: Killer | None) -> Result:
    """One search."""
    tune = load_tune(path, words)
    folder.mkdir(parents=True)
    if killer is not None:
        killer.coordinator_at_s = tune.tune.budget / 2
    control = killer.control if killer is not None else (lambda driver: None)
    search(tune, folder, killer or (lambda summary: None), control)
    return result(folder, tune.tune.budget)


def main() -> None:
    """Run pairs, and print each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", help="key=value for the search")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    ratios = []
    for pair in range(arguments.pairs):
        words = [*arguments.words, f"seed={pair}", "spares=1"]
        began = time.time()
        calm = ours(arguments.search, arguments.folder / f"{pair}-calm", words, None)
        killer = Killer(arguments.every)
        hit = ours(arguments.search, arguments.folder / f"{pair}-hit", words, killer)
        ratios.append(hit.anytime / calm.anytime)
        print(f"pair {pair} ({time.time() - began:.0f} s)\n  calm {calm}\n  hit  {hit}", flush=True)
    print(f"anytime best, disturbed / undisturbed: median {median(ratios):.3f} of {ratios}")


if __name__ == "__main__":
    main()
