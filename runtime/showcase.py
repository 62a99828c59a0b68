"""Builds the trained model in this process, from a checkpoint, and lets the workload show it."""

from __future__ import annotations

import torch
from torch import nn

from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.config.job import Job
from ithaca.runtime.workload import Workload, default_dtype


def trained_modules(workload: Workload, job: Job, found: Found) -> list[nn.Module]:
    """The layers with the checkpoint's weights, in evaluation mode, on the CPU.

    Raises:
        DamagedError: a file is not what the manifest says.
    """
    modules = []
    for spec in workload.layers():
        module = spec.build()
        state = read_layer(found.folder, found.manifest.layer(spec.name))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(state[f"param.{name}"])
        modules.append(module.to(default_dtype(job.precision.value)).eval())
    return modules


def showcase(workload: Workload, job: Job, found: Found) -> str | None:
    """The workload's text about the model in ``found``; None if it has none."""
    threads = torch.get_num_threads()
    # Threads that wait for each other on a busy machine take minutes for a few words.
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return workload.showcase(trained_modules(workload, job, found))
    finally:
        torch.set_num_threads(threads)
