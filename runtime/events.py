"""Typed records of what happened in a run; the JSONL log of them is the one source of truth.

Progress, report, metrics and trace are all made from this log and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A record. ``time_s`` is seconds since the epoch on the machine that saw it."""

    kind: ClassVar[str] = ""
    time_s: float

    def to_json(self) -> str:
        """One line of JSON with ``kind`` first."""
        return json.dumps({"kind": self.kind, **asdict(self)}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The run begins, or goes on from ``resumed_from`` (a committed step)."""

    kind: ClassVar[str] = "run_started"
    name: str
    steps: int
    metric: str
    metric_scale: float
    job: dict[str, Any]
    identity: dict[str, str]
    resumed_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChosen(Event):
    """A generation starts: its plan, the program of each worker, what the simulator expects.

    ``predicted`` holds, per worker, rows of (action, start_s, end_s) of one step.
    """

    kind: ClassVar[str] = "plan_chosen"
    generation: int
    plan: str
    programs: dict[str, str]
    predicted_step_s: float | None
    predicted: dict[str, list[tuple[str, float, float]]]
    predicted_peak_bytes: dict[str, int]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined(Event):
    """A worker is ready: where it lives and what it runs on."""

    kind: ClassVar[str] = "worker_joined"
    worker: int
    node: str
    pid: int
    device: str
    torch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Event):
    """Step ``step`` was committed and applied.

    ``loss`` is the mean over ``count`` terms; ``auxiliary`` the mean of the layers' own losses;
    ``norm`` the global gradient norm before clipping; ``skipped`` says that a NaN policy left
    the update out; ``micro_batches`` counts those whose losses are in it.
    """

    kind: ClassVar[str] = "step_done"
    step: int
    generation: int
    loss: float
    auxiliary: float
    norm: float
    lr: float
    count: int
    samples: int
    seconds: float
    skipped: bool = False
    micro_batches: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated(Event):
    """The mean loss over the validation batches after ``step`` committed steps."""

    kind: ClassVar[str] = "validated"
    step: int
    loss: float
    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersTimed(Event):
    """Median seconds of F, B, I, W and STEP of each layer that a worker holds, by name.

    ``memory_costs`` are rows of (share of the activations in memory, slowdown), if it has a budget.
    """

    kind: ClassVar[str] = "layers_timed"
    step: int
    worker: int
    times: dict[str, dict[str, float]]
    memory_costs: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsed(Event):
    """What a worker did so far to stay under its budget; bytes, and seconds since its start.

    ``peak_bytes`` never passes ``budget_bytes``. ``copy_s`` are seconds in which copies ran,
    ``exposed_s`` those that the engine waited for them, ``recompute_s`` what is planned for a
    step. ``decisions`` are the largest: tensor, bytes, keep, swap or recompute, and why.
    """

    kind: ClassVar[str] = "memory_used"
    worker: int
    step: int
    budget_bytes: int
    peak_bytes: int
    out_bytes: int
    in_bytes: int
    disk_bytes: int
    copy_s: float
    exposed_s: float
    recompute_s: float
    replays: int
    plan_hits: float
    decisions: list[tuple[str, int, str, str]]
    refusals: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersHashed(Event):
    """A worker's hashes of the layers that it holds, after ``step`` committed steps."""

    kind: ClassVar[str] = "layers_hashed"
    step: int
    worker: int
    hashes: dict[str, str]
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHashed(Event):
    """The hash of parameters and optimizer state after ``step`` committed steps.

    All holders of a layer agreed on its hash (I2).
    """

    kind: ClassVar[str] = "state_hashed"
    step: int
    state_hash: str
    layers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Event):
    """When one worker did each action of a step: rows of (action, start_s, end_s).

    Seconds since the step began on that worker; ``began_s`` is that moment's ``time_s``.
    ``peak_bytes`` is the most memory that its process has had resident so far.
    """

    kind: ClassVar[str] = "timeline"
    step: int
    worker: int
    began_s: float
    rows: list[tuple[str, float, float]]
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWritten(Event):
    """The state after ``step`` committed steps is on disk and verified."""

    kind: ClassVar[str] = "checkpoint_written"
    step: int
    path: str
    bytes: int
    seconds: float
    state_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something the user should know; training goes on."""

    kind: ClassVar[str] = "warned"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFailed(Event):
    """The first cause of a failure, with everything that is known about it."""

    kind: ClassVar[str] = "worker_failed"
    worker: int
    node: str
    rank: int
    step: int
    action: str
    cause: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureNoticed(Event):
    """A failure that the run is about to answer: its class, the culprit and what showed it.

    ``generation`` is the one that it broke; ``failure`` the class, such as ``crash`` or ``hang``;
    ``worker`` and ``rank`` are None when no single worker is to blame (a node, the controller).
    ``evidence`` is one line; ``traceback`` the real one of the first cause, or the stacks of all
    workers after a hang, or empty.
    """

    kind: ClassVar[str] = "failure_noticed"
    generation: int
    failure: str
    worker: int | None
    node: str
    rank: int | None
    step: int
    action: str
    evidence: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Event):
    """What answers a failure, a notice or a joined worker; ``generation`` is the new one.

    ``candidates`` are all that were compared, each with ``strategy``, ``step_s``,
    ``transition_s``, ``peak_bytes``, ``score``, ``feasible`` and ``reason``; ``plan`` is None if
    the run cannot go on.
    """

    kind: ClassVar[str] = "decided"
    generation: int
    strategy: str
    plan: str | None
    reason: str
    candidates: list[dict[str, Any]]
    predicted_step_s: float | None
    predicted_transition_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Event):
    """A recovery is over: the first step of ``generation`` was committed, or its plan entered.

    ``phases`` are seconds in the order ``detect``, ``wake``, ``decide``, ``rebuild``, ``move``,
    ``redo``, ``first_step``. ``redone`` names every forward or backward that was done a second
    time: ``first``, ``last`` (layers), ``micro_batch`` and ``op``; ``redone_micro_batches`` counts
    the micro-batches in it. ``pause_s`` is the faulted step's time less the predicted step and
    less the redone work.
    """

    kind: ClassVar[str] = "recovered"
    generation: int
    strategy: str
    phases: dict[str, float]
    redone: list[dict[str, Any]]
    redone_micro_batches: int
    lost_samples: int
    pause_s: float
    predicted_step_s: float | None
    predicted_transition_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMoved(Event):
    """``worker`` got the states of ``layers`` from others when it entered ``generation``."""

    kind: ClassVar[str] = "state_moved"
    worker: int
    generation: int
    layers: list[int]
    size: int
    """Bytes."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed(Event):
    """A worker misses a message; it stands still and waits for orders. Not a verdict on anybody.

    ``corrupt`` says that the message came and its checksum was wrong.
    """

    kind: ClassVar[str] = "missed"
    worker: int
    generation: int
    step: int
    action: str
    reason: str
    corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLeft(Event):
    """A worker takes part no longer: it is fenced, whether or not its process still runs."""

    kind: ClassVar[str] = "worker_left"
    worker: int
    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected(Event):
    """A drill did something on purpose, at ``action`` of ``step``."""

    kind: ClassVar[str] = "fault_injected"
    fault: str
    worker: int | None
    step: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerRestarted(Event):
    """The controller's process was replaced; ``incarnation`` counts from 0."""

    kind: ClassVar[str] = "controller_restarted"
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Showcase(Event):
    """A text made with the trained model, such as a generated sample."""

    kind: ClassVar[str] = "showcase"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The last record. ``outcome`` is ``finished``, ``drained`` or ``failed``."""

    kind: ClassVar[str] = "run_ended"
    outcome: str
    step: int
    reason: str
    state_hash: str | None = None


_KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted,
        PlanChosen,
        WorkerJoined,
        StepDone,
        Validated,
        LayersTimed,
        MemoryUsed,
        LayersHashed,
        StateHashed,
        Timeline,
        CheckpointWritten,
        Warned,
        WorkerFailed,
        FailureNoticed,
        Decided,
        Recovered,
        StateMoved,
        Missed,
        WorkerLeft,
        FaultInjected,
        ControllerRestarted,
        Showcase,
        RunEnded,
    )
}


def parse_event(line: str) -> Event:
    """The event of one line; ``ValueError`` if the line is no event of this version."""
    data = json.loads(line)
    cls = _KINDS.get(data.pop("kind", None)) if isinstance(data, dict) else None
    if cls is None:
        raise ValueError(f"not an event: {line[:80]!r}")
    names = {field.name for field in fields(cls)}
    if set(data) - names:
        raise ValueError(f"{cls.kind} has no {', '.join(sorted(set(data) - names))}")
    try:
        return cls(**data)
    except TypeError as error:
        raise ValueError(f"{cls.kind}: {error}") from error


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Events of a log; a last line that a crash cut short is left out."""
    held: str | None = None
    for line in lines:
        if held is not None:
            yield parse_event(held)
        held = line
    if held is not None and held.endswith("\n"):
        yield parse_event(held)
