"""Ithaca trains PyTorch models on a Ray cluster through lost machines, to the same bits.

The names below are the public interface; each is imported when it is first used, so that
``import ithaca`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ithaca.planner.plan import Plan
    from ithaca.planner.profile import Profile
    from ithaca.planner.program import Program
    from ithaca.planner.simulate import simulate
    from ithaca.runtime.config.job import Job
    from ithaca.runtime.config.load import load
    from ithaca.runtime.run import train
    from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Workload

__version__ = "0.1.0"

_WHERE = {
    "Batch": "ithaca.runtime.workload",
    "BatchId": "ithaca.runtime.workload",
    "Job": "ithaca.runtime.config.job",
    "LayerSpec": "ithaca.runtime.workload",
    "Plan": "ithaca.planner.plan",
    "Profile": "ithaca.planner.profile",
    "Program": "ithaca.planner.program",
    "Workload": "ithaca.runtime.workload",
    "load": "ithaca.runtime.config.load",
    "simulate": "ithaca.planner.simulate",
    "train": "ithaca.runtime.run",
}

__all__ = [
    "Batch",
    "BatchId",
    "Job",
    "LayerSpec",
    "Plan",
    "Profile",
    "Program",
    "Workload",
    "load",
    "simulate",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"ithaca has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)
