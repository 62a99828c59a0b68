"""Carries a loaded job out, from a crew of warm workers to the end of the run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ithaca.planner.schedule import validation_programs
from ithaca.runtime.checkpoint.compatibility import check_resume
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.cluster import Cluster, ClusterError
from ithaca.runtime.config.job import ControlConfig, Job
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.control.plane import ControlPlane
from ithaca.runtime.controller import Controller, Mission, plan_chosen
from ithaca.runtime.crew import Crew, CrewError
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import (
    Event,
    RunEnded,
    RunStarted,
    Showcase,
    Warned,
    WorkerJoined,
)
from ithaca.runtime.folder import LOG
from ithaca.runtime.lock import RunLock
from ithaca.runtime.log import EventLog
from ithaca.runtime.preview import Preview, preview
from ithaca.runtime.showcase import showcase
from ithaca.runtime.timeouts import Timeouts

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with.

    Attributes:
        loaded: the job and where it came from.
        seen: workload, plan and programs.
        folder: of the run.
        found: the checkpoint to go on from, or None.
        warnings: for the user, from looking at checkpoints.
    """

    loaded: LoadedJob
    seen: Preview
    folder: Path
    found: Found | None = None
    warnings: tuple[str, ...] = ()


def find_checkpoint(folder: Path, resume: bool) -> tuple[Found | None, tuple[str, ...]]:
    """The newest whole checkpoint if the run goes on, and a warning for each damaged one.

    Call it inside :func:`recording`, which has put right what a crash left half-done.
    """
    if not resume:
        return None, ()
    search = CheckpointStore(folder, keep=1).newest()
    warnings = [f"damaged checkpoint left out: {damage}" for damage in search.damages]
    if search.found is None:
        warnings.append(f"there is no whole checkpoint in {folder}: starting from step 0")
    return search.found, tuple(warnings)


@contextmanager
def recording(folder: Path, listeners: Sequence[Emit]) -> Iterator[Emit]:
    """Owns the run folder and its event log; what is emitted reaches log and listeners."""
    waiting: list[str] = []
    with RunLock(folder) as lock, EventLog(folder / LOG, warn=waiting.append) as log:
        left = CheckpointStore(folder, keep=1).clean(lock)
        waiting += [f"removed what a crash left of a checkpoint: {path.name}" for path in left]

        def emit(event: Event) -> None:
            log(event)
            for listener in listeners:
                listener(event)
            while waiting:
                warned = Warned(time_s=time.time(), message=waiting.pop())
                for listener in listeners:
                    listener(warned)

        yield emit


def identity_of(crew: Crew, workers: Sequence[int]) -> dict[str, str]:
    """What the bits depend on, equal on all workers; ``UserError`` names one that differs."""
    identities = {
        worker: {
            "torch": crew.facts[worker].torch,
            "device": crew.facts[worker].device,
            "threads": str(crew.facts[worker].threads),
        }
        for worker in workers
    }
    first = identities[workers[0]]
    for worker, identity in identities.items():
        if identity != first:
            raise UserError(
                f"worker {worker} on {crew.facts[worker].node} differs from worker {workers[0]}: "
                f"{identity} and {first}. All workers of a job need the same torch build, class "
                "of device and number of threads, or their bits differ."
            )
    return first


def train(
    loaded: LoadedJob,
    folder: Path,
    *,
    resume: bool = False,
    listeners: Sequence[Emit] = (),
    on_controller: Callable[[Controller], None] = lambda _: None,
) -> RunEnded | None:
    """Train a job from cluster to showcase; its last event, or None if nothing is left to do.

    Args:
        loaded: the job.
        folder: of the run; made if missing.
        resume: go on from the newest whole checkpoint in ``folder``.
        listeners: called with every event, besides the log.
        on_controller: told the controller, so that signals can reach it.

    Raises:
        UserError: the job, the folder or the cluster cannot be used.
    """
    seen = preview(loaded)
    with recording(folder, listeners) as emit:
        found, warnings = find_checkpoint(folder, resume)
        if found is not None and found.step >= loaded.job.steps:
            return None
        start = Start(loaded, seen, folder, found, warnings)
        with cluster_of(loaded.job, len(seen.plan.workers)) as crew:
            end = carry_out(start, crew, emit, on_controller)
        if end.outcome == "finished":
            tell_showcase(start, emit)
    return end


@contextmanager
def cluster_of(job: Job, size: int) -> Iterator[Crew]:
    """``size`` warm workers on the cluster that ``job`` names.

    Raises:
        UserError: the cluster cannot be had, or has no room.
    """
    settings = job.cluster
    join_s = Timeouts.from_detect(job.detect).join_s
    try:
        cluster = Cluster.start(
            size, settings.address, interface=settings.interface, paths=[Path.cwd()]
        )
    except ClusterError as error:
        raise UserError(str(error)) from error
    with cluster:
        try:
            crew = Crew(
                cluster,
                size,
                threads=settings.threads,
                device=settings.device,
                interface=settings.interface,
                join_s=join_s,
            )
        except CrewError as error:
            raise UserError(
                f"{error}. Is there room for {size} workers on the cluster {settings.address!r}?"
            ) from error
        with crew:
            yield crew


def carry_out(
    start: Start, crew: Crew, emit: Emit, on_controller: Callable[[Controller], None]
) -> RunEnded:
    """Run the job on ``crew``; the last event.

    Args:
        start: what the run begins with.
        crew: warm workers, at least those of the plan.
        emit: from :func:`recording`.
        on_controller: told the controller, so that signals can reach it.

    Raises:
        UserError: the workers differ, cannot reach this process, or cannot build the workload.
    """
    control = start.loaded.job.control
    _check_reach(control, crew, start.seen.plan.workers)
    mission = _mission(start, crew)
    _announce(start, mission, crew, emit)
    controller = Controller(mission, crew, emit)
    on_controller(controller)
    with ControlPlane.open(
        controller,
        start.folder,
        pid=os.getpid(),
        started=time.time(),
        bind=control.bind,
        port=control.port,
        expose=control.expose,
    ) as plane:
        return controller.run(plane)


def _check_reach(control: ControlConfig, crew: Crew, workers: Sequence[int]) -> None:
    """A control plane on loopback serves workers on this node only."""
    here = socket.gethostname()
    away = [worker for worker in workers if crew.facts[worker].node != here]
    if away and not control.expose:
        nodes = sorted({crew.facts[worker].node for worker in away})
        raise UserError(
            f"workers on {', '.join(nodes)} cannot reach the control plane on {control.bind}. "
            "Give an address of this node that they can reach, control.bind=ADDRESS, and "
            "control.expose=true; calls still need the run's token."
        )


def tell_showcase(start: Start, emit: Emit) -> None:
    """Emit what the workload shows with the trained model, from the newest checkpoint."""
    found = CheckpointStore(start.folder, keep=1).newest().found
    if found is None:
        return
    text = showcase(start.seen.workload, start.loaded.job, found)
    if text is not None:
        emit(Showcase(time_s=time.time(), text=text))


def _mission(start: Start, crew: Crew) -> Mission:
    loaded, seen = start.loaded, start.seen
    validation = loaded.job.validation
    batches = validation.batches
    return Mission(
        job=loaded.job,
        workload_config=loaded.workload_config,
        config=loaded.config,
        fingerprint=seen.workload.fingerprint(),
        identity=identity_of(crew, seen.plan.workers),
        names=tuple(spec.name for spec in seen.model.specs),
        plan=seen.plan,
        programs=seen.programs,
        profile=seen.profile,
        validation=validation_programs(seen.plan, batches) if validation.every else {},
        folder=start.folder.resolve(),
        resume=start.found,
    )


def _announce(start: Start, mission: Mission, crew: Crew, emit: Emit) -> None:
    metric, found = start.seen.workload.metric, start.found
    warnings = list(start.warnings)
    if found is not None:
        warnings += check_resume(
            found.manifest, mission.config, mission.fingerprint, mission.identity
        )
    emit(
        RunStarted(
            time_s=time.time(),
            name=mission.job.name,
            steps=mission.job.steps,
            metric=metric.name,
            metric_scale=metric.scale,
            job=dict(mission.config),
            identity=dict(mission.identity),
            resumed_from=found.step if found else None,
        )
    )
    for warning in warnings:
        emit(Warned(time_s=time.time(), message=warning))
    for worker in mission.plan.workers:
        facts = crew.facts[worker]
        emit(
            WorkerJoined(
                time_s=time.time(),
                worker=worker,
                node=facts.node,
                pid=facts.pid,
                device=facts.device,
                torch=facts.torch,
            )
        )
    emit(plan_chosen(mission.plan, mission.programs, mission.profile, mission.exact))
