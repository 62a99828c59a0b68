"""One replica group of one worker under torchft, itself restarted by torchrun.

``torchrun ... -m benchmarks.peers.torchft_replica TASK FOLDER REPLICA LIGHTHOUSE``. The loop and
the timeouts are those of torchft's own data-parallel example: a step whose all-reduce failed is
left out and done again by who is there, and a replica that comes back is healed from another one.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torchft import (  # type: ignore[import-not-found]
    DistributedDataParallel,
    Manager,
    Optimizer,
    ProcessGroupGloo,
)

from benchmarks.peers.record import Record
from benchmarks.peers.task import Task, loss_sum, parameter_hash

GROUP_S = 5.0
"""Timeout of the process group."""
CALL_S = 10.0
"""Timeout of everything else, quorum included."""
START_S = 120.0
"""Until all replicas have loaded torch for the first time."""
HEARTBEATS_S = 1.0
"""Ten heartbeats: then the lighthouse knows of all, and the first quorum waits for all."""


def meet(folder: Path, replica: int, workers: int) -> None:
    """Return once every replica has a manager that tells the lighthouse of it."""
    (folder / f"ready-{replica}").touch()
    deadline = time.monotonic() + START_S
    while len(list(folder.glob("ready-*"))) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all of {workers} replicas began within {START_S:g} s")
        time.sleep(0.01)


def main() -> None:
    """Train to the last step, from wherever the other replicas are."""
    task, folder = Task.read(sys.argv[1]), Path(sys.argv[2])
    replica, lighthouse = int(sys.argv[3]), sys.argv[4]
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    record = Record(task, folder, replica)
    module = task.model()
    inner = task.optimizer(module.parameters())

    def load(state: dict[str, Any]) -> None:
        module.load_state_dict(state["model"])
        inner.load_state_dict(state["optimizer"])

    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=GROUP_S)),
        load_state_dict=load,
        state_dict=lambda: {"model": module.state_dict(), "optimizer": inner.state_dict()},
        min_replica_size=1,
        timeout=timedelta(seconds=CALL_S),
        quorum_timeout=timedelta(seconds=CALL_S),
        connect_timeout=timedelta(seconds=CALL_S),
        lighthouse_addr=lighthouse,
        replica_id=f"replica-{replica}-",
        init_sync=False,  # the weights are the same everywhere, by seed
    )
    if not (folder / f"ready-{replica}").exists():  # one that comes back waits for nobody
        meet(folder, replica, task.workers)
        time.sleep(HEARTBEATS_S)
    model = DistributedDataParallel(manager, module)
    optimizer = Optimizer(manager, inner)
    share = task.share(replica)
    terms = len(share) * task.rows * task.width
    while (before := manager.current_step()) < task.steps:
        optimizer.zero_grad()
        for micro_batch in share:
            last = micro_batch == share[-1]
            with nullcontext() if last else model.no_sync():
                loss = loss_sum(model(task.batch(before, micro_batch))) / terms
                record.strike(before + 1, micro_batch)
                loss.backward()
        optimizer.step()
        # A replica that is being healed takes part with a gradient of zero: it counts as nothing.
        part = share if manager.is_participating() else ()
        for micro_batch in part:
            record.computed(before + 1, micro_batch)
        if (now := manager.current_step()) != before:
            record.committed(now, part)
    record.finished(parameter_hash(module.parameters()))
    manager.shutdown()


if __name__ == "__main__":
    main()
