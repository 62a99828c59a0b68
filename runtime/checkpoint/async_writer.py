"""A thread that writes staged layers while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.state import Staged
from ithaca.runtime.checkpoint.writer import write_layer


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What became of one worker's part of a checkpoint.

    Attributes:
        step: committed steps in the state.
        files: the layers that were written; empty if it failed.
        error: why it failed, for the user; None if it did not.
    """

    step: int
    files: tuple[LayerFile, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Save:
    folder: Path
    layers: Mapping[str, Staged]
    step: int
    done: Future[SaveReport]


class _ClosedError(Exception):
    """The writer was closed in the middle of a file."""


class _Interruptible(Disk):
    """Gives up between two pieces of a file once ``stop`` is set."""

    def __init__(self, disk: Disk, stop: threading.Event) -> None:
        self._disk = disk
        self._stop = stop

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        self._disk.write(path, self._until_stopped(chunks))

    def rename(self, old: Path, new: Path) -> None:
        self._disk.rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self._disk.sync_folder(folder)

    def _until_stopped(self, chunks: Iterable[bytes | memoryview]) -> Iterable[bytes | memoryview]:
        for chunk in chunks:
            if self._stop.is_set():
                raise _ClosedError
            yield chunk


class AsyncWriter:
    """Writes the layers that one worker was chosen to write, one save after the other.

    A save that fails gives a report with ``error`` and ends nothing. The thread starts with the
    first save; it is a daemon, so a dead disk cannot keep the process from ending.

    Args:
        depth: saves that may wait behind the one being written; their copies take memory.
        disk: where the file operations go.
    """

    def __init__(self, depth: int = 1, disk: Disk | None = None) -> None:
        self._queue: Queue[_Save | None] = Queue(maxsize=depth)
        self._stop = threading.Event()
        self._disk = _Interruptible(disk or Disk(), self._stop)
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether a save would be refused now; ask before copying a state with ``stage``."""
        return self._queue.full()

    def submit(self, folder: Path, layers: Mapping[str, Staged], step: int) -> Future[SaveReport]:
        """Queues a save of ``layers`` (by name) into ``folder`` and returns at once.

        If the queue is full, the report says so immediately: the disk is slower than the interval
        between checkpoints, and waiting would stop training. Errors other than of the disk or of
        memory are bugs and come out of the future as they are.

        Raises:
            RuntimeError: the writer is closed.
        """
        if self._closed:
            raise RuntimeError("this checkpoint writer is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
            self._thread.start()
        done: Future[SaveReport] = Future()
        try:
            self._queue.put_nowait(_Save(folder, layers, step, done))
        except Full:
            error = "earlier checkpoints are still being written; raise checkpoint.every"
            done.set_result(SaveReport(step, error=error))
        return done

    def close(self, timeout_s: float) -> None:
        """Ends the thread: waits ``timeout_s`` for queued saves, then gives them up.

        A save that is given up reports an error. Returns within twice ``timeout_s``.

        Raises:
            TimeoutError: the disk does not answer, and the thread is stuck in it.
        """
        self._closed = True
        thread = self._thread
        if thread is None:
            return
        with suppress(Full):  # a thread that is this far behind is told below
            self._queue.put(None, timeout=timeout_s)
            thread.join(timeout_s)
        self._stop.set()
        # Without an end mark the thread could have emptied the queue just before it was told.
        with suppress(Full):
            self._queue.put_nowait(None)
        thread.join(timeout_s)
        if thread.is_alive():
            raise TimeoutError(f"the disk did not answer a checkpoint's write for {timeout_s:g} s")

    def _work(self) -> None:
        while (save := self._next()) is not None:
            try:
                report = self._save(save)
            except Exception as error:  # a bug: it belongs to whoever waits for the report
                save.done.set_exception(error)
            else:
                save.done.set_result(report)

    def _next(self) -> _Save | None:
        # Once stopped there may be no end mark in the queue: what is left is drained, not awaited.
        if self._stop.is_set() and self._queue.empty():
            return None
        return self._queue.get()

    def _save(self, save: _Save) -> SaveReport:
        files = []
        for layer, staged in save.layers.items():
            where = f"layer {layer!r} in {save.folder}"
            try:
                files.append(write_layer(save.folder, layer, staged.tensors, save.step, self._disk))
            except _ClosedError:
                return SaveReport(save.step, error=f"{where}: the run ended before it was written")
            except MemoryError:
                return SaveReport(save.step, error=f"{where}: out of memory")
            except OSError as error:
                return SaveReport(save.step, error=f"{where}: {error.strerror or error}")
        return SaveReport(save.step, tuple(files))
