"""A worker under torchrun: ``torchrun ... -m benchmarks.peers.elastic_worker TASK FOLDER``.

Data-parallel with a checkpoint every few steps, as torchrun's users write it: after a failure all
workers are started again and load the newest checkpoint.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.record import Record
from benchmarks.peers.task import Task, loss_sum, parameter_hash

CHECKPOINT = "checkpoint.pt"
GOODBYE_S = 2.0


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, task: Task, step: int, record: Record,
    worker: int,
) -> None:  # fmt: skip
    """One optimizer step of this worker: its micro-batches accumulated, one all-reduce.

    Args:
        model: DistributedDataParallel, which averages over workers.
        optimizer: of its parameters.
        task: the job.
        step: counted from 1.
        record: hears of every micro-batch.
        worker: this one.
    """
    optimizer.zero_grad()
    share = task.share(worker)
    terms = len(share) * task.rows * task.width
    for micro_batch in share:
        last = micro_batch == share[-1]
        with nullcontext() if last else model.no_sync():  # type: ignore[operator]
            loss = loss_sum(model(task.batch(step - 1, micro_batch))) / terms
            record.strike(step, micro_batch)
            loss.backward()
        record.computed(step, micro_batch)
    optimizer.step()


def main() -> None:
    """Train from the newest checkpoint to the last step."""
    task, folder = Task.read(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    worker = dist.get_rank()
    record = Record(task, folder, worker)
    module = task.model()
    model = DistributedDataParallel(module)
    optimizer = task.optimizer(model.parameters())
    done, path = 0, folder / CHECKPOINT
    if path.exists():
        saved = torch.load(path)
        module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["step"]
    for step in range(done + 1, task.steps + 1):
        train_step(model, optimizer, task, step, record, worker)
        record.committed(step, task.share(worker))
        if step % task.checkpoint_every == 0 and worker == 0:
            state = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({"step": step, **state}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    record.finished(parameter_hash(model.parameters()))
    dist.barrier()
    if worker == 0:
        # It serves the store; who still uses that while it goes is aborted, and all start again.
        time.sleep(GOODBYE_S)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
