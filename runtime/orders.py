"""What the controller tells a worker, and what the worker answers: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ithaca.planner.program import Program
from ithaca.recovery.orders import Orders
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.config.job import Job
from ithaca.runtime.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Facts:
    """What a worker says of itself when it is ready.

    Attributes:
        node: name of the machine.
        address: IP address on which the other workers reach it.
        pid: its process.
        device: class of device, such as ``cpu AVX2`` or the name of the GPU.
        torch: version of the build.
        threads: intra-op threads.
        place: the node of the cluster it is on; several may be on one machine.
        port: of the store that it hosts, where a generation can meet.
    """

    node: str
    address: str
    pid: int
    device: str
    torch: str
    threads: int
    place: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything that a worker needs to take part in a run, in whatever generation.

    Attributes:
        job: the job.
        workload_config: the plug-in's options, sealed.
        worker: id of this worker.
        layers: those that it holds from the start; none for one that gets them from others.
        folder: of the run, absolute; every node must reach it.
        resume: the checkpoint to start from; None for initial weights.
        control_address: of the controller's control plane.
        control_token: of this run.
    """

    job: Job
    workload_config: Sealed
    worker: int
    layers: tuple[int, ...]
    folder: str
    resume: Found | None
    control_address: str
    control_token: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """One worker's part of a generation, the first one included.

    Attributes:
        orders: what to do.
        meeting: address and port of the store where the generation meets: that of its first
            worker, as its :class:`Facts` tell it.
        validation: this worker's validation pass; None if the job has none.
        validate: whether the validation behind the step that all stand at is still to be done.
        restore: go back to this checkpoint first, with the layers of the plan.
    """

    orders: Orders
    meeting: tuple[str, int]
    validation: Program | None = None
    validate: bool = False
    restore: Found | None = None


def validation_due(job: Job, step: int) -> bool:
    """Whether a validation stands behind ``step`` committed steps (0: before the first)."""
    every = job.validation.every
    return every > 0 and (step % every == 0 or step == job.steps)


@dataclass(frozen=True, slots=True)
class Saved:
    """Layers that a worker wrote for a checkpoint, with the hash of each layer's state."""

    files: tuple[LayerFile, ...]
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NotSaved:
    """Why a worker could not write its part of a checkpoint; training goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a worker's training ended.

    Attributes:
        step: committed steps.
        drained: it stopped early because it was asked to.
        skipped: steps whose update a NaN policy left out.
    """

    step: int
    drained: bool
    skipped: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a worker could not go on.

    Attributes:
        worker: its id.
        node: where it is.
        step: the step that it was in.
        action: what it was doing, as text.
        cause: one line.
        traceback: as Python prints it.
        secondary: it only noticed that somebody else is gone.
        corrupt: its memory changed by itself; the step under way has to begin anew everywhere.
    """

    worker: int
    node: str
    step: int
    action: str
    cause: str
    traceback: str
    secondary: bool
    corrupt: bool = False
