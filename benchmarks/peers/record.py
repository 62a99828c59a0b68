"""What a worker of a peer writes down: a line for everything that the comparison counts."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from benchmarks.peers.task import Task

STRUCK = "struck"
"""Its presence in the folder says that the fault has been done: a restart is not killed again."""


class Record:
    """Appends lines to ``worker-N.jsonl``; each is handed to the system before the call returns.

    Args:
        task: names the fault.
        folder: of the run.
        worker: this one.
    """

    def __init__(self, task: Task, folder: Path, worker: int) -> None:
        self._task, self._folder, self._worker = task, folder, worker
        self._file = (folder / f"worker-{worker}.jsonl").open("a", buffering=1)
        self._write("began")

    def computed(self, step: int, micro_batch: int) -> None:
        """Forward and backward of a micro-batch are done; ``step`` counts from 1 everywhere."""
        self._write("computed", step=step, micro_batch=micro_batch)

    def committed(self, step: int, micro_batches: range | tuple[int, ...]) -> None:
        """The optimizer has stepped, with these micro-batches of this worker in its gradient."""
        self._write("committed", step=step, micro_batches=list(micro_batches))

    def finished(self, state_hash: str) -> None:
        """All steps are done."""
        self._write("finished", hash=state_hash)

    def strike(self, step: int, micro_batch: int) -> None:
        """Kill this process, once, if the task says so: before the backward of its last one."""
        task, struck = self._task, self._folder / STRUCK
        here = step == task.fault_step and self._worker == task.fault_worker
        if here and micro_batch == task.share(self._worker)[-1] and not struck.exists():
            struck.touch()
            self._write("struck", step=step)
            os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, kind: str, **rest: object) -> None:
        line = {"kind": kind, "time_s": time.time(), "worker": self._worker, **rest}
        self._file.write(json.dumps(line) + "\n")
