"""The job: what one YAML file says, validated and frozen."""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address
from re import ASCII, fullmatch
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from ithaca.recovery.fault import Fault, FaultError
from ithaca.runtime.config.layout import MAX_WORKERS, LayoutConfig
from ithaca.runtime.config.memory import MemoryConfig
from ithaca.runtime.config.recovery import RecoveryConfig
from ithaca.runtime.config.section import BadValue, Section
from ithaca.runtime.config.units import Seconds, format_seconds


class Numerics(Enum):
    """``exact`` keeps the same bits on every layout; ``fast`` uses plain all-reduce."""

    EXACT = "exact"
    FAST = "fast"


class Precision(Enum):
    """The type that layers compute in; gradients are summed and stepped in fp32 either way."""

    FP32 = "fp32"
    BF16 = "bf16"


class NanPolicy(Enum):
    """What happens when a reduced gradient or loss is NaN or infinite."""

    STOP = "stop"
    SKIP = "skip"


class WorkloadConfig(Section):
    """``use`` names the plug-in; every other key belongs to the plug-in's own ``Config``."""

    model_config = ConfigDict(extra="allow")

    use: str
    """``lm``, or ``package.module:Class`` for a workload of your own."""

    @property
    def options(self) -> dict[str, Any]:
        """The plug-in's own keys, as they stand in the file."""
        return dict(self.model_extra or {})


class ClusterConfig(Section):
    """Where the workers live."""

    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | Literal["auto"] = "auto"
    """Number of workers; ``auto``: what the layout needs."""
    address: str = "local"
    """``local`` starts an own Ray cluster; ``auto`` or ``host:port`` attaches to one."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Intra-op threads of one worker; part of the job's identity, since kernels change bits."""
    device: Literal["cpu", "cuda"] = "cpu"
    """What every worker computes on."""
    interface: str | None = None
    """Network interface that workers talk over, such as ``eth0``; default: Ray's node address."""

    @field_validator("address")
    @classmethod
    def _address_is_known(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if address not in ("local", "auto") and not (
            host and "/" not in host and fullmatch(r"\d{1,5}", port, ASCII)
        ):
            raise ValueError(f"must be local, auto or host:port; got {address[:80]!r}")
        return address


class OptimizerConfig(Section):
    """AdamW (arXiv 1711.05101) and its learning-rate schedule."""

    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moments, each from 0 to below 1."""
    eps: float = Field(default=1e-8, gt=0, allow_inf_nan=False)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Decoupled decay, of parameters with two or more dimensions."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest global gradient norm; null for no clipping."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate falls from its peak after the warm-up."""
    warmup: int = Field(default=0, ge=0)
    """Steps in which the rate rises linearly to its peak."""
    final: float = Field(default=0.1, ge=0, le=1)
    """The last step's rate, as a part of the peak."""
    on_nan: NanPolicy = NanPolicy.STOP
    """``stop`` ends the job with the cause; ``skip`` leaves the step out and counts it."""

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"must be two numbers from 0 to below 1; got {list(betas)}")
        return betas


class CheckpointConfig(Section):
    """When and how many checkpoints are kept in ``<folder>/checkpoints``."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0: only at the end and on a drain."""
    keep: int = Field(default=3, ge=1)
    """How many of the newest verified checkpoints stay on disk."""


class ValidationConfig(Section):
    """Forward passes over held-out data."""

    every: int = Field(default=50, ge=0)
    """Steps between validations; 0: never. Also before the first step and after the last."""
    batches: int = Field(default=8, ge=1)
    """Micro-batches of one validation."""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class ControlConfig(Section):
    """The run's gRPC control plane."""

    bind: str = "127.0.0.1"
    """Address that the service listens on."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port; 0 for any free one."""
    expose: bool = False
    """Must be true for any address but loopback."""

    @model_validator(mode="after")
    def _exposed_knowingly(self) -> ControlConfig:
        if not self.expose and not _is_loopback(self.bind):
            raise BadValue(
                "control.bind",
                f"{self.bind!r} can be reached by other machines; to allow that set "
                "control.expose: true, else use 127.0.0.1",
            )
        return self


class IntegrityConfig(Section):
    """What is checked against corruption."""

    state: bool = True
    """Hash states and gradients at rest, and check them before a step counts."""
    replay_every: int = Field(default=0, ge=0)
    """Steps between two in which a part of a micro-batch is computed a second time, by another
    worker, and compared; 0: never."""
    wire: bool = False
    """Send a checksum with every message between workers, and compare it."""


class ReportConfig(Section):
    """What the report shows."""

    timeline_every: int = Field(default=20, ge=1)
    """Steps between recorded timelines of every worker's actions."""
    hash_every: int = Field(default=0, ge=0)
    """Steps between hashes of the whole state in the event log; 0: at checkpoints only."""


class Job(Section):
    """Everything that decides what a run computes and how."""

    name: str
    """Names the run folder and the report: letters, digits, ``.``, ``_`` and ``-``, at most 64."""
    workload: WorkloadConfig
    """What is trained."""
    steps: int = Field(ge=1, le=10**9)
    """Optimizer steps of the whole job."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seeds weights, data order and dropout."""
    folder: str | None = None
    """Run folder; default ``runs/<name>``. Must be reachable from every node."""
    numerics: Numerics = Numerics.EXACT
    """``exact`` or ``fast``."""
    precision: Precision = Precision.FP32
    """``fp32`` or ``bf16``."""
    detect: Seconds = Field(default=2.0, validate_default=False)
    """How long a worker may be silent, ``10ms`` to ``1h``; all other timeouts follow from it."""
    drills: bool = False
    """Whether faults may be caused on purpose, by ``faults`` or ``ithaca inject``."""
    faults: tuple[str, ...] = ()
    """Faults of a drill, one line each, such as ``crash w1 at step 3 before B m2``."""
    cluster: ClusterConfig = ClusterConfig()
    layout: LayoutConfig = LayoutConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    memory: MemoryConfig = MemoryConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    integrity: IntegrityConfig = IntegrityConfig()
    control: ControlConfig = ControlConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("name")
    @classmethod
    def _name_fits_a_folder(cls, name: str) -> str:
        if not fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name, ASCII):
            raise ValueError(
                "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit; "
                f"got {name[:80]!r}"
            )
        return name

    @field_validator("detect")
    @classmethod
    def _detect_in_range(cls, detect: float) -> float:
        if not 0.01 <= detect <= 3600:
            raise ValueError(f"must be a duration from 10ms to 1h; got {format_seconds(detect)}")
        return detect

    @field_validator("folder")
    @classmethod
    def _folder_is_a_path(cls, folder: str | None) -> str | None:
        if folder is not None and (not folder.strip() or "\0" in folder):
            raise ValueError(f"must be the path of a folder, or null; got {folder!r}")
        return folder

    @model_validator(mode="after")
    def _faults_are_allowed(self) -> Job:
        if self.faults and not self.drills:
            raise BadValue(
                "faults", "are caused only where they are allowed; to allow that set drills: true"
            )
        for number, text in enumerate(self.faults):
            try:
                fault = Fault.parse(text)
            except FaultError as error:
                raise BadValue(f"faults.{number}", str(error)) from error
            if fault.step > self.steps:
                raise BadValue(
                    f"faults.{number}", f"is in step {fault.step}; the job has {self.steps} steps"
                )
        return self

    @model_validator(mode="after")
    def _memory_can_be_counted(self) -> Job:
        if self.memory.budget is not None and self.cluster.device != "cpu":
            raise BadValue(
                "memory.budget",
                f"is counted in the memory of the CPU, and cluster.device is "
                f"{self.cluster.device}; leave memory.budget away, or use cluster.device: cpu",
            )
        return self

    @model_validator(mode="after")
    def _workers_match(self) -> Job:
        needed = sum(self.layout.stage_counts())
        workers = self.cluster.workers
        if workers == "auto" and not needed:
            raise BadValue(
                "cluster.workers",
                "is auto and so is the layout, so the number of workers is unknown; give "
                "cluster.workers a number, or give layout.pipelines and layout.stages",
            )
        if workers != "auto" and needed and needed != workers:
            raise BadValue(
                "cluster.workers",
                f"is {workers}, but the layout has {needed} stages in all, one worker each; "
                f"write {needed} or auto, or change the layout",
            )
        fewest = self.recovery.min_workers
        if fewest > max(needed, 0 if workers == "auto" else workers):
            raise BadValue(
                "recovery.min_workers",
                f"is {fewest}, more than the job's {needed or workers} workers; the run would "
                "end before it began",
            )
        if self.optimizer.warmup > self.steps:
            raise BadValue(
                "optimizer.warmup",
                f"is {self.optimizer.warmup}, longer than the whole job of {self.steps} steps",
            )
        return self

    @property
    def memory_limit_bytes(self) -> int | None:
        """What one worker may hold; None for no limit, or if it is not known in bytes."""
        limits = [m for m in (self.layout.memory, self.memory.limit_bytes) if m is not None]
        return min(limits, default=None)

    @property
    def num_workers(self) -> int:
        """Workers that the job runs on."""
        workers = self.cluster.workers
        return sum(self.layout.stage_counts()) if workers == "auto" else workers
