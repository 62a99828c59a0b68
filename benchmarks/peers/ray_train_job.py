"""The job under Ray Train: ``python -m benchmarks.peers.ray_train_job TASK FOLDER``.

A TorchTrainer with a failure budget and a checkpoint every few steps: after a failure Ray Train
starts the group of workers again and hands each the newest checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model

from benchmarks.peers.elastic_worker import CHECKPOINT, train_step
from benchmarks.peers.record import Record
from benchmarks.peers.task import Task, parameter_hash

MOST_FAILURES = 3


def work(config: dict[str, Any]) -> None:
    """What each worker runs."""
    task, folder = Task(**config["task"]), Path(config["folder"])
    torch.set_num_threads(1)
    worker = train.get_context().get_world_rank()
    record = Record(task, folder, worker)
    module = task.model()
    model = prepare_model(module)
    optimizer = task.optimizer(model.parameters())
    done, newest = 0, train.get_checkpoint()
    if newest is not None:
        with newest.as_directory() as place:
            saved = torch.load(Path(place) / CHECKPOINT)
        module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["step"]
    for step in range(done + 1, task.steps + 1):
        train_step(model, optimizer, task, step, record, worker)
        record.committed(step, task.share(worker))
        if step % task.checkpoint_every == 0:
            with tempfile.TemporaryDirectory() as place:
                kept = None
                if worker == 0:
                    state = {
                        "model": module.state_dict(),
                        "optimizer": optimizer.state_dict(),
                    }
                    torch.save({"step": step, **state}, Path(place) / CHECKPOINT)
                    kept = Checkpoint.from_directory(place)
                train.report({"step": step}, checkpoint=kept)
    record.finished(parameter_hash(model.parameters()))


def main() -> None:
    """Train on a cluster of this process alone."""
    task, folder = Task.read(sys.argv[1]), Path(sys.argv[2]).resolve()
    ray.init(address="local", num_cpus=task.workers, include_dashboard=False)
    trainer = TorchTrainer(
        work,
        train_loop_config={"task": asdict(task), "folder": str(folder)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=task.workers),
        run_config=RunConfig(
            name="job",
            storage_path=str(folder / "storage"),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
        ),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
