"""``ithaca run`` as a process of its own, and what can be done to the processes under it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ithaca.runtime.events import Event, RunEnded, StateHashed, WorkerJoined
from ithaca.runtime.log import read
from tests.helpers.real_job import write_job

ROOT = Path(__file__).parents[2]
BOUND_S = 200.0
E = TypeVar("E", bound=Event)


def until(what: Callable[[], bool], why: str) -> None:
    """Wait for something that another process does; fail with ``why`` behind the bound."""
    deadline = time.monotonic() + BOUND_S
    while not what():
        assert time.monotonic() < deadline, f"{why} did not happen within {BOUND_S:g} s"
        time.sleep(0.05)


def state(pid: int) -> str:
    """The letter of a process's state; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def has_torch(pid: int) -> bool:
    """Whether a process has loaded torch."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


class Driven:
    """A run of the small job in ``folder``, in a session of its own."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        **changes: Any,  # noqa: ANN401 - YAML values
    ) -> None:
        self.folder = folder / "run"
        job = write_job(folder, **{**STEADY, **changes})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ithaca", "run", str(job), f"folder={self.folder}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            start_new_session=True,
        )

    def events(self, kind: type[E]) -> list[E]:
        """Of one kind, in the log so far."""
        path = self.folder / "events.jsonl"
        known = read(path) if path.exists() and path.stat().st_size else []
        return [event for event in known if isinstance(event, kind)]

    @property
    def step(self) -> int:
        """Committed steps that were recorded; cheap, however long the log is."""
        assert self.process.poll() in (None, 0), self.process.communicate()[0]
        steps = re.findall(rb'"kind":"step_done".*?"step":(\d+),', self._tail(1 << 16))
        return int(steps[-1]) if steps else 0

    def plan_names(self, worker: int) -> bool:
        """Whether some plan so far has a part for ``worker``."""
        assert self.process.poll() in (None, 0), self.process.communicate()[0]
        return f"@w{worker}".encode() in self._tail(1 << 30)

    def _tail(self, most: int) -> bytes:
        path = self.folder / "events.jsonl"
        if not path.exists():
            return b""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read()

    def pids(self) -> dict[int, int]:
        """Process of each worker that has joined."""
        return {event.worker: event.pid for event in self.events(WorkerJoined)}

    def controllers(self) -> list[int]:
        """Living processes of controllers, found by what they call themselves.

        The run's cluster is its own, or this process's, on which it is the only run.
        """
        return [pid for pid in below(os.getpid()) if b"ControllerProcess" in _command(pid)]

    def states(self) -> dict[int, str]:
        """Hash of the state after each step."""
        return {event.step: event.state_hash for event in self.events(StateHashed)}

    def end(self) -> tuple[int, str]:
        """Exit code, and everything that was printed."""
        output, _ = self.process.communicate(timeout=BOUND_S)
        return self.process.returncode, output

    def finished(self) -> RunEnded:
        """The last event of a run that has to end well."""
        code, output = self.end()
        assert code == 0, output
        (end,) = self.events(RunEnded)
        assert end.outcome == "finished", output
        return end

    def enough(self, more: int = 20) -> RunEnded:
        """The last event of a run that is drained ``more`` steps from now, if it has so many."""
        last = self.step + more
        until(lambda: self.step >= last or self.process.poll() is not None, "more steps")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        code, output = self.end()
        assert code == 0, output
        (end,) = self.events(RunEnded)
        assert end.outcome in ("drained", "finished"), output
        return end

    def clean_up(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            for pid in self.pids().values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


STEADY: dict[str, Any] = {
    "layout": {"pipelines": 2, "stages": 2},
    "steps": 400,
    "checkpoint": {"every": 0},
    "validation": {"every": 0},
    "optimizer": {"schedule": "constant", "warmup": 0},
    "report": {"hash_every": 1, "timeline_every": 1000},
    "detect": "4s",
}
"""Long enough to do something in the middle, and the same bits whatever that is."""


def below(pid: int) -> Iterator[int]:
    """All living descendants of a process."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(process.name))
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            yield child
            todo.append(child)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
