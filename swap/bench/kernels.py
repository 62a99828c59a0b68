"""The same kernels in every arm, so that bits can be compared on a GPU."""

from __future__ import annotations

import os

import torch


def same_kernels() -> None:
    """Lets torch take deterministic kernels only, for the rest of the process.

    Attention takes its own only if nothing else is allowed, and then cuBLAS has to be told, by a
    variable of the environment, how much memory it may work in.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    # What is fetched back is written in full: nothing is gained by filling it first.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
