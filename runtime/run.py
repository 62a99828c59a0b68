"""Carries a loaded job out, from a crew of warm workers to the end of the run."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ithaca.runtime.agency import Agency
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.cluster import Cluster, ClusterError
from ithaca.runtime.config.job import ControlConfig, Job
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.crew import Crew, CrewError
from ithaca.runtime.driver import Driver, Emit
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded, Showcase, Warned
from ithaca.runtime.faults.schedule import struck, with_faults_to_come
from ithaca.runtime.folder import LOG
from ithaca.runtime.lock import RunLock
from ithaca.runtime.log import EventLog
from ithaca.runtime.mission import Mission
from ithaca.runtime.preview import Preview, preview
from ithaca.runtime.sealed import Sealed
from ithaca.runtime.seat import Seat
from ithaca.runtime.showcase import showcase
from ithaca.runtime.timeouts import Timeouts


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
def owning(folder: Path) -> Iterator[tuple[str, ...]]:
    """Holds the run folder, with what a crash left half-done put right; warnings about that."""
    with RunLock(folder) as lock:
        left = CheckpointStore(folder, keep=1).clean(lock)
        yield tuple(f"removed what a crash left of a checkpoint: {path.name}" for path in left)


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
    on_controller: Callable[[Driver], None] = lambda _: None,
) -> RunEnded | None:
    """Train a job from cluster to showcase; its last event, or None if nothing is left to do.

    Args:
        loaded: the job.
        folder: of the run; made if missing.
        resume: go on from the newest whole checkpoint in ``folder``.
        listeners: called with every event, in this thread.
        on_controller: told the driver, so that signals can reach it.

    Raises:
        UserError: the job, the folder or the cluster cannot be used.
    """
    seen = preview(loaded)
    with owning(folder) as left:
        found, warnings = find_checkpoint(folder, resume)
        if found is not None and found.step >= loaded.job.steps:
            return None
        start = Start(loaded, seen, folder, found, (*left, *warnings))
        size = len(seen.plan.workers) + loaded.job.recovery.spares
        with (
            cluster_of(loaded.job, size) as (cluster, agency),
            closing(Seat(loaded.job.detect)) as seat,
        ):
            seat.take()  # it comes up beside the workers
            crew = hired(loaded.job, agency, size)
            mission = mission_of(start, crew)
            driver = Driver(mission, cluster, agency, crew, listeners, seat)
            on_controller(driver)
            end = driver.run()
        if end.outcome == "finished":
            tell_showcase(start, listeners)
    return end


@contextmanager
def cluster_of(job: Job, size: int) -> Iterator[tuple[Cluster, Agency]]:
    """The cluster that ``job`` names, with room for ``size`` workers, and who hires them there.

    Raises:
        UserError: the cluster cannot be had.
    """
    settings = job.cluster
    try:
        cluster = Cluster.start(
            size, settings.address, interface=settings.interface, paths=[Path.cwd()]
        )
    except ClusterError as error:
        raise UserError(str(error)) from error
    with cluster:
        agency = Agency(
            cluster,
            threads=settings.threads,
            device=settings.device,
            interface=settings.interface,
            join_s=Timeouts.from_detect(job.detect).join_s,
            detect_s=job.detect,
        )
        with agency:
            yield cluster, agency


def hired(job: Job, agency: Agency, size: int) -> Crew:
    """``size`` warm workers; ``UserError`` if the cluster has no room for them."""
    try:
        return agency.hire(size)
    except CrewError as error:
        raise UserError(
            f"{error}. Is there room for {size} workers on the cluster {job.cluster.address!r}?"
        ) from error


def mission_of(start: Start, crew: Crew) -> Mission:
    """What a controller of this run carries out.

    Raises:
        UserError: the workers differ, or cannot reach this process.
    """
    loaded, seen = start.loaded, start.seen
    workers = sorted(crew.facts)
    _check_reach(loaded.job.control, crew, workers)
    metric = seen.workload.metric
    return Mission(
        run=secrets.token_hex(8),
        pid=os.getpid(),
        started=time.time(),
        job=with_faults_to_come(loaded.job, seen.plan, struck(start.folder)),
        workload_config=Sealed.of(loaded.workload_config),
        config=loaded.config,
        fingerprint=seen.workload.fingerprint(),
        identity=identity_of(crew, workers),
        metric=metric.name,
        metric_scale=metric.scale,
        names=tuple(spec.name for spec in seen.model.specs),
        ties=tuple(seen.model.pairs()),
        plan=seen.plan,
        programs=seen.programs,
        profile=seen.profile,
        folder=start.folder.resolve(),
        resume=start.found,
        warnings=start.warnings,
    )


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


def tell_showcase(start: Start, listeners: Sequence[Emit]) -> None:
    """Record what the workload shows with the trained model, from the newest checkpoint."""
    found = CheckpointStore(start.folder, keep=1).newest().found
    if found is None:
        return
    text = showcase(start.seen.workload, start.loaded.job, found)
    if text is None:
        return
    event = Showcase(time_s=time.time(), text=text)
    warnings: list[str] = []
    with EventLog(start.folder / LOG, warn=warnings.append) as log:
        log(event)
    told: list[Event] = [Warned(time_s=time.time(), message=line) for line in warnings]
    for each in (event, *told):
        for listener in listeners:
            listener(each)
