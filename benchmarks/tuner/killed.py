"""``python -m benchmarks.tuner.killed SEARCH FOLDER``: ``ithaca tune`` killed as a whole, resumed.

The command is killed with SIGKILL after a time of the search's budget that a seed draws, and
started again with ``--resume``, so often as ``--kills`` says; then it runs to its end. Told are
trials that began anew, whether every loss that was told of a step has the same bits, whether the
journal of each start begins with the one before, and the budget that was used in all.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.tuner.faults import result
from ithaca.tuners.journal import read_journal
from ithaca.tuners.loop.elapsed import FILE, Elapsed
from ithaca.tuners.loop.load import load_tune
from ithaca.tuners.loop.record import JOURNAL

_LOOK_S = 0.05
_BOUND_S = 900.0


def start(search: Path, folder: Path, words: list[str], resume: bool) -> subprocess.Popen[str]:
    """The command."""
    more = ["--resume"] if resume else []
    return subprocess.Popen(
        [sys.executable, "-m", "ithaca", "tune", str(search), f"folder={folder}", *words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def used_s(folder: Path, before: str) -> float:
    """Seconds of the budget that are used; 0 until the search is taken up from ``before``."""
    text = clock(folder)
    if not text or text == before or json.loads(text)["origin"] is None:
        return 0.0
    return Elapsed(folder, time.time).now_s()


def clock(folder: Path) -> str:
    """The file of the search's clock; empty before the first trial."""
    path = folder / FILE
    return path.read_text() if path.exists() else ""


def kill_at(process: subprocess.Popen[str], folder: Path, at_s: float, before: str) -> bool:
    """Kill it when so much of the budget is used; False if it ended before."""
    until = time.monotonic() + _BOUND_S
    while used_s(folder, before) < at_s and process.poll() is None and time.monotonic() < until:
        time.sleep(_LOOK_S)
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def main() -> None:
    """Kill, resume, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", help="key=value for the search")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    search, folder, words = arguments.search, arguments.folder, arguments.words
    budget_s = load_tune(search, words).tune.budget
    draw = np.random.default_rng(arguments.seed)
    moments = sorted(draw.uniform(0.1, 0.9, arguments.kills) * budget_s)
    journal, whole = b"", True
    for number, at_s in enumerate(moments):
        before = clock(folder)
        process = start(search, folder, words, resume=number > 0)
        if not kill_at(process, folder, at_s, before):
            print(process.communicate()[0])
            raise RuntimeError(f"it ended before it could be killed at {at_s:.1f} s")
        found = (folder / JOURNAL).read_bytes()
        whole &= found.startswith(journal)
        journal = found[: found.rfind(b"\n") + 1]
        print(
            f"killed at {at_s:.1f} s of {budget_s:g} s, {journal.count(10) - 1} events", flush=True
        )
    last = start(search, folder, words, resume=True)
    said = last.communicate(timeout=_BOUND_S)[0]
    print(said, end="")
    trials = read_journal(folder / JOURNAL)[0].trials.values()
    whole &= (folder / JOURNAL).read_bytes().startswith(journal)
    print(f"exit code {last.returncode}; {result(folder, budget_s)}")
    print(f"the journal went on: {whole}; last end at {max(t.ended_s for t in trials):.2f} s")


if __name__ == "__main__":
    main()
