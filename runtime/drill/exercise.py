"""Carries a drill out: the job undisturbed, unless its bits are known, and the job with faults.

Both are run as users run them, by a process of their own, so that a fault may end the controller
as well as a worker and only the log is left to tell.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from ithaca.recovery.drill import Result, Trace, judge
from ithaca.runtime.drill.load import LoadedDrill
from ithaca.runtime.drill.reference import code_hash, recorded, reference_key
from ithaca.runtime.drill.result import result_of, trace_of
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event
from ithaca.runtime.folder import LOG
from ithaca.runtime.log import read

OUTPUT = "output.txt"
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Exercise:
    """What a drill came to.

    Attributes:
        result: of the disturbed run.
        problems: what was not as expected.
        folder: of the disturbed run.
        known: the undisturbed run's bits had been recorded before.
    """

    result: Result
    problems: tuple[str, ...]
    folder: Path
    known: bool


def exercise(
    loaded: LoadedDrill, base: Path, say: Callable[[str], None], fresh: bool = False
) -> Exercise:
    """Run the drill.

    Args:
        loaded: the drill.
        base: folder for its runs and for the recorded bits.
        say: takes a line about what is being done.
        fresh: run the job undisturbed even if its bits are known.

    Raises:
        UserError: the undisturbed run does not finish: then nothing can be compared.
    """
    job, drill = loaded.job.job, loaded.drill
    home = _free(base / drill.name)
    identity = {
        "torch": str(torch.__version__),
        "device": f"{job.cluster.device} {platform.machine()} "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "threads": str(job.cluster.threads),
    }
    key = reference_key(loaded.job.config, identity, code_hash())

    def undisturbed() -> Trace:
        say(f"undisturbed run: {home / 'undisturbed'}")
        code, events, text = _run(loaded, home / "undisturbed", disturbed=False)
        if code != 0:
            raise UserError(
                f"the job of this drill does not finish undisturbed (exit code {code}), so there "
                f"is nothing to compare with. What it printed is in "
                f"{home / 'undisturbed' / OUTPUT}, last:\n{text[-800:]}"
            )
        return trace_of(events)

    cache = base / "references"
    if fresh:
        (cache / f"{key}.json").unlink(missing_ok=True)
    reference, known = recorded(cache, key, undisturbed)
    if known:
        say("undisturbed run: its bits are known")
    say(f"disturbed run: {home / 'disturbed'}")
    with _cluster(loaded) as overrides:
        code, events, text = _run(loaded, home / "disturbed", overrides, disturbed=True)
    result = result_of(events, code, text)
    problems = judge(drill.expect.expectation(), result, reference, loaded.faults)
    return Exercise(result, problems, home / "disturbed", known)


def _free(base: Path) -> Path:
    for number in count(1):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not folder.exists():
            return folder
    raise AssertionError("count() does not end")


@contextmanager
def _cluster(loaded: LoadedDrill) -> Iterator[list[str]]:
    """The cluster of several nodes that the drill asks for, as overrides of the job."""
    nodes, job = loaded.drill.nodes, loaded.job.job
    if nodes is None:
        yield []
        return
    slots = job.num_workers + job.recovery.spares
    command = [sys.executable, "-m", "ithaca.runtime.drill.nodes", str(nodes), str(slots)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        try:
            address = cluster.stdout.readline().strip()
            if not address:
                raise UserError(f"a Ray cluster of {nodes} nodes could not be started here")
            yield [f"cluster.address={address}"]
        finally:
            cluster.stdin.close()
            _end(cluster, asked=True)


def _run(
    loaded: LoadedDrill, folder: Path, more: Sequence[str] = (), *, disturbed: bool
) -> tuple[int, list[Event], str]:
    """Exit code, events and output of ``ithaca run``; killed, with its children, at the limit."""
    folder.mkdir(parents=True)
    overrides = [*loaded.overrides(disturbed=disturbed), *more, f"folder={folder}"]
    command = [sys.executable, "-m", "ithaca", "run", str(loaded.job_file), *overrides]
    output = folder / OUTPUT
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        late = ""
        try:
            code = process.wait(timeout=loaded.drill.limit)
        except subprocess.TimeoutExpired:
            code = 124
            late = f"\nended by the drill: it took longer than {loaded.drill.limit:g} s"
        finally:
            _end(process)
    log = folder / LOG
    events = read(log) if log.exists() and log.stat().st_size else []
    return code, events, output.read_text(errors="replace") + late


def _end(process: subprocess.Popen[Any], *, asked: bool = False) -> None:
    """Nothing of the run is left, however it or we ended; ``asked``: it was told to end."""
    for number in (None, signal.SIGTERM, signal.SIGKILL)[0 if asked else 1 :]:
        if process.poll() is not None:
            return
        if number is not None:
            _signal(process, number)
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _signal(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
