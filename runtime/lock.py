"""One run at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from ithaca.runtime.errors import UserError

_FILE = "lock"


class RunLock:
    """Holds ``<folder>/lock`` for as long as the run works in ``folder``.

    The kernel keeps the lock (``flock``), so it ends with the process, however that ends; the
    file stays and says who holds it or held it last. The folder is made if it is missing.

    Raises:
        UserError: from :meth:`acquire`, if another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Takes the lock at once or raises ``UserError``; it never waits."""
        if self.held:
            raise RuntimeError(f"the lock of {self.folder} is held already")
        path = self.folder / _FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(
                f"cannot use the run folder {self.folder}: {error.strerror}. "
                "Give a folder that can be written, with folder=..."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise UserError(_refusal(self.folder, holder, error)) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise UserError(f"cannot write {path}: {error.strerror}. Make room first.") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            # The file stays: removing it would let two runs lock two files of one name.
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _holder(descriptor: int) -> str:
    """``process N on HOST`` as far as the file tells."""
    words = os.pread(descriptor, 300, 0).decode("ascii", "replace").split()
    if len(words) == 2 and words[0].isdecimal():
        return f"process {words[0]} on {words[1]}"
    return "another process"


def _refusal(folder: Path, holder: str, error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return (
            f"{folder} is in use: {holder} runs a job in it. "
            "Wait for it, stop it, or give this job a folder of its own with folder=..."
        )
    return (
        f"{folder} cannot be locked ({error.strerror}): its file system has no file locks. "
        "Give a folder on another one with folder=..."
    )
