"""The rank processes of one node: started, watched, signalled, ended with all their children."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ithaca.runtime.script.contract import Place
from ithaca.runtime.script.streams import Shown, Stream
from ithaca.runtime.script.tail import Tail, last_text

_CHILD = Path(__file__).with_name("child.py")
_WARDEN = Path(__file__).with_name("warden.py")
_OUTPUT_INTERVAL_S = 0.05
ERROR_FILE = "error.json"


@dataclass(frozen=True, slots=True)
class RankOrder:
    """How to start one rank.

    Attributes:
        place: its place in the group.
        command: program and arguments.
        environment: all its variables.
        folder: its log folder, which exists.
        shown: what of each stream the console wants.
        prefix: of its teed lines.
        needles: of each stream, what a teed line contains that is copied to the filtered log.
    """

    place: Place
    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    shown: dict[Stream, Shown]
    prefix: str
    needles: dict[Stream, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that a rank wrote, in order."""

    rank: int
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class RankExit:
    """A rank that ended.

    Attributes:
        place: of the rank.
        host, pid: of its process.
        code: exit code, or minus the signal that ended it.
        at: when, in seconds of the node's clock since the epoch.
        error: what torch's recorder left in the error file; empty without.
        error_at: when it was written; None without.
        stderr: the end of its standard error when it failed, at most 64 KiB.
        stderr_at: when that was written.
        folder: its log folder.
    """

    place: Place
    host: str
    pid: int
    code: int
    at: float
    error: str
    error_at: float | None
    stderr: str
    stderr_at: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened since the last one; ``done``: all ranks ended and all output was read."""

    outputs: tuple[Output, ...]
    exits: tuple[RankExit, ...]
    done: bool


class _Rank:
    """One process, its end of the log files, and a descriptor that tells of its exit."""

    def __init__(self, order: RankOrder, tails: dict[Stream, Tail], folder: Path) -> None:
        self.order = order
        self.tails = tails
        with (
            (order.folder / f"{Stream.OUT.value}.log").open("ab") as out,
            (order.folder / f"{Stream.ERR.value}.log").open("ab") as err,
        ):
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()), *order.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=order.environment,
                cwd=folder,
                start_new_session=True,
            )
        self.watch = os.pidfd_open(self.process.pid)
        self.ended = False

    def exit(self) -> RankExit | None:
        """How it ended, once; the process stays a zombie so that its group keeps its number."""
        if self.ended:
            return None
        status = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            return None
        self.ended = True
        folder = self.order.folder
        code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        error = folder / ERROR_FILE
        stderr = folder / f"{Stream.ERR.value}.log"
        return RankExit(
            place=self.order.place,
            host=socket.gethostname(),
            pid=self.process.pid,
            code=code,
            at=time.time(),
            error=last_text(error),
            error_at=error.stat().st_mtime if error.is_file() else None,
            stderr=last_text(stderr) if code else "",
            stderr_at=stderr.stat().st_mtime,
            folder=folder,
        )

    def outputs(self) -> list[Output]:
        """What it wrote since the last call, as far as the console wants it."""
        read = ((stream, tail.read()) for stream, tail in self.tails.items())
        return [Output(self.order.place.rank, stream, data) for stream, data in read if data]

    def send(self, number: int) -> None:
        """Signals its process group, in which nobody may be left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class RankProcesses:
    """The ranks of one node in one attempt.

    Make it in a thread that lives as long as the ranks: they die with the thread.
    """

    def __init__(self, orders: Sequence[RankOrder], folder: Path, warden: Warden) -> None:
        """Starts the ranks in ``folder``; on an error those that started are killed again.

        Raises:
            OSError: a process could not be made.
        """
        self._warden = warden
        self._copies = {
            stream: (orders[0].folder.parent / f"filtered_{stream.value}.log").open("ab")
            for stream in Stream
            if any(order.needles[stream] for order in orders)
        }
        self._ranks: list[_Rank] = []
        try:
            for order in orders:
                rank = _Rank(order, self._tails(order), folder)
                self._ranks.append(rank)
                warden.add(rank.process.pid)
        except BaseException:
            self.signal(signal.SIGKILL)
            raise

    def observe(self, timeout_s: float) -> Observation:
        """Waits up to ``timeout_s`` seconds for output or an exit."""
        end = time.monotonic() + timeout_s
        while True:
            exits = tuple(exit for rank in self._ranks if (exit := rank.exit()) is not None)
            outputs = tuple(output for rank in self._ranks for output in rank.outputs())
            done = not outputs and all(rank.ended for rank in self._ranks)
            left = end - time.monotonic()
            if exits or outputs or done or left <= 0:
                return Observation(outputs, exits, done)
            self._await_exit(min(left, _OUTPUT_INTERVAL_S))

    def signal(self, number: int) -> None:
        """Signals the process groups of the ranks that have not ended."""
        for rank in self._ranks:
            if not rank.ended:
                rank.send(number)

    def close(self, timeout_s: float) -> tuple[Output, ...]:
        """Ends what the ranks left running, with SIGTERM and after ``timeout_s`` with SIGKILL.

        Returns the output that came meanwhile. To be called when every rank has ended. What is
        killed has as long to be gone: a restart would meet its ports and its memory otherwise.
        """
        for rank in self._ranks:
            rank.send(signal.SIGTERM)
            rank.process.wait()
        left = _outlasting(self._ranks, timeout_s)
        for rank in left:
            rank.send(signal.SIGKILL)
        _outlasting(left, timeout_s)
        outputs: list[Output] = []
        for rank in self._ranks:
            while more := rank.outputs():
                outputs.extend(more)
            self._warden.discard(rank.process.pid)
            os.close(rank.watch)
            for tail in rank.tails.values():
                tail.close()
        for copy in self._copies.values():
            copy.close()
        return tuple(outputs)

    def _tails(self, order: RankOrder) -> dict[Stream, Tail]:
        tails = {}
        for stream in Stream:
            path = order.folder / f"{stream.value}.log"
            path.touch()
            if order.shown[stream] is not Shown.NO:
                teed = order.shown[stream] is Shown.PREFIXED
                tails[stream] = Tail(
                    path,
                    needles=order.needles[stream] if teed else (),
                    copy=self._copies.get(stream),
                    prefix=order.prefix,
                )
        return tails

    def _await_exit(self, timeout_s: float) -> None:
        poll = select.poll()
        for rank in self._ranks:
            if not rank.ended:
                poll.register(rank.watch, select.POLLIN)
        poll.poll(timeout_s * 1000)


def _outlasting(ranks: Sequence[_Rank], timeout_s: float) -> list[_Rank]:
    """Ranks whose group still runs when the time is over; returns at once when none does."""
    end = time.monotonic() + timeout_s
    left = [rank for rank in ranks if lives(rank.process.pid)]
    while left and time.monotonic() < end:
        time.sleep(_OUTPUT_INTERVAL_S)
        left = [rank for rank in left if lives(rank.process.pid)]
    return left


def lives(group: int) -> bool:
    """Whether a process of the group runs; a zombie that nobody collects does not count."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            text = (process / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        state, _, its_group, *_ = text.rpartition(")")[2].split()
        if int(its_group) == group and state not in "ZX":
            return True
    return False


class Warden:
    """The process that outlives a killed agent just long enough to end its ranks' children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WARDEN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # the agent's are Ray's, and go with the cluster
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        self._process.wait()  # it detaches at once

    def add(self, group: int) -> None:
        """Kills the process group ``group`` when this process vanishes."""
        self._tell(f"+{group}\n")

    def discard(self, group: int) -> None:
        """Forgets ``group``, which has ended."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Ends the warden, and every group it still knows."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
