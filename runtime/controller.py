"""The controller: takes a job from its assignment to its last checkpoint.

It decides and records; it is not on the path of a step. Workers train on their own, report over
the control plane, and answer when they are done. What happens is kept as events; what may follow
what is in :mod:`ithaca.runtime.states`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.planner.simulate import simulate
from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.config.job import Job, Numerics
from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.inbox import Inbox
from ithaca.runtime.control.plane import ControlPlane
from ithaca.runtime.control.surface import (
    Beat,
    BeatReply,
    Command,
    RunStatus,
    WorkerStatus,
    refuse_older,
)
from ithaca.runtime.crew import Crew, CrewError, finished, is_death, result
from ithaca.runtime.engine.hashing import combine
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import (
    CheckpointWritten,
    Event,
    LayersHashed,
    LayersTimed,
    PlanChosen,
    RunEnded,
    StateHashed,
    StepDone,
    Warned,
    WorkerFailed,
    parse_event,
)
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.measured import Timings, keep
from ithaca.runtime.orders import Assignment, Outcome, Trouble
from ithaca.runtime.saver import Saver, utc_now
from ithaca.runtime.states import Life, State
from ithaca.runtime.timeouts import Timeouts

_LOOK_S = 0.1
"""Longest wait of the controller's loop: events and signals are taken that often."""


@dataclass(frozen=True, slots=True)
class Mission:
    """What the controller carries out.

    Attributes:
        job: the job.
        workload_config: the plug-in's options.
        config: the resolved job as JSON values, with the plug-in's options; goes into manifests.
        fingerprint: of the workload's data.
        identity: torch build, device class and threads, equal on all workers.
        names: of the layers, in order.
        plan: of this generation.
        programs: the training step of every worker.
        profile: the costs that the plan was made with.
        validation: the validation pass of every worker; empty for none.
        folder: the run folder.
        resume: the checkpoint to start from, or None.
    """

    job: Job
    workload_config: BaseModel
    config: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    identity: Mapping[str, str]
    names: tuple[str, ...]
    plan: Plan
    programs: Mapping[int, Program]
    profile: Profile
    validation: Mapping[int, Program]
    folder: Path
    resume: Found | None = None

    @property
    def exact(self) -> bool:
        """Whether gradients are summed in the fixed tree."""
        return self.job.numerics is Numerics.EXACT


def plan_chosen(
    plan: Plan, programs: Mapping[int, Program], profile: Profile, exact: bool
) -> PlanChosen:
    """The event that tells a plan and what the simulator expects of it on ``profile``."""
    timeline = simulate(programs, profile, exact=exact)
    return PlanChosen(
        time_s=time.time(),
        generation=plan.generation,
        plan=str(plan),
        programs={str(worker): str(program) for worker, program in programs.items()},
        predicted_step_s=timeline.step_s,
        predicted={
            str(worker): [(str(t.action), round(t.start_s, 6), round(t.end_s, 6)) for t in timed]
            for worker, timed in timeline.rows.items()
        },
        predicted_peak_bytes={str(w): peak for w, peak in timeline.peak_bytes.items()},
        reason=f"times are {profile.origin.get('times', 'given')}",
    )


class ReplicasDifferError(RuntimeError):
    """Two holders of a layer have different states (I2 is broken)."""


class Controller:
    """Runs one mission on a crew. Its control surface may be called from any thread.

    Args:
        mission: what to do.
        crew: warm workers; those named in the plan are used.
        emit: takes every event, in order, in the thread of :meth:`run`.
    """

    def __init__(self, mission: Mission, crew: Crew, emit: Callable[[Event], None]) -> None:
        self._mission = mission
        self._crew = crew
        self._emit_to = emit
        self._timeouts = Timeouts.from_detect(mission.job.detect)
        self._life = Life()
        self._store = CheckpointStore(mission.folder, mission.job.checkpoint.keep)
        names = mission.names
        self._saver = Saver(self._store, crew, mission.plan, names, self._manifest)
        resume = mission.resume
        if resume is not None:
            self._store.distrust_after(resume.step)
        self._ledger = resume.manifest.ledger if resume else Ledger()
        self._events = EventFeed()
        self._inbox = Inbox()
        self._arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._drain = threading.Event()
        self._beats: dict[int, tuple[Beat, float]] = {}
        self._hashed: dict[int, dict[int, Mapping[str, str]]] = {}
        self._timings = Timings(mission.plan.workers)
        self._due: tuple[int, Ledger] | None = None
        self._last: StepDone | None = None
        self._started = time.time()
        self._checkpoint_step = resume.step if resume else None
        self._wanted = resume.step if resume else -1
        self._unsaved = ""

    # -- the control surface

    @property
    def events(self) -> EventFeed:
        """The run's events as JSON lines."""
        return self._events

    def status(self) -> RunStatus:
        """This moment."""
        last, job = self._last, self._mission.job
        now = time.monotonic()
        workers = []
        for worker in self._mission.plan.workers:
            facts = self._crew.facts[worker]
            status = WorkerStatus(worker, facts.node, facts.pid, self._life.state.value)
            if worker in self._beats:
                beat, at = self._beats[worker]
                status = replace(
                    status,
                    step=beat.step,
                    action=beat.action,
                    since_s=beat.since_s,
                    age_s=now - at,
                )
            workers.append(status)
        return RunStatus(
            name=job.name,
            state=self._life.state.value,
            step=self._ledger.committed,
            steps=job.steps,
            loss=last.loss if last else None,
            throughput=last.count / last.seconds if last else None,
            generation=self._mission.plan.generation,
            plan=str(self._mission.plan),
            workers=tuple(workers),
            started=self._started,
            checkpoint_step=self._checkpoint_step,
        )

    def request_drain(self) -> bool:
        """Stop behind the step that runs; True the first time."""
        first = not self._drain.is_set()
        self._drain.set()
        return first

    def beat(self, beat: Beat) -> BeatReply:
        """Take a worker's beat and events."""
        refuse_older(beat, self._mission.plan.generation)
        delivery = self._inbox.take(beat)
        self._beats[beat.worker] = (beat, time.monotonic())
        for record in delivery.records:
            self._arrived.put(parse_event(record.line))
        command = Command.DRAIN if self._drain.is_set() else Command.NONE
        return BeatReply(command, self._mission.plan.generation, delivery.acknowledged)

    # -- the run

    def run(self, plane: ControlPlane) -> RunEnded:
        """Carry the mission out; the last event, which was emitted too.

        Raises:
            KeyboardInterrupt: and whatever else ends the driver; workers are the caller's to end.
        """
        try:
            outcome = self._train(plane)
            reason = f"{outcome.step} of {self._mission.job.steps} steps are done"
            ended = State.DRAINED if outcome.drained else State.FINISHED
        except (_Failed, CrewError) as failed:
            ended, reason = State.FAILED, str(failed)
        except UserError as error:
            self._end(State.FAILED, str(error))
            raise
        return self._end(ended, reason)

    def _end(self, ended: State, reason: str) -> RunEnded:
        self._life.enter(ended)
        saved = self._saver.saved
        end = RunEnded(
            time_s=time.time(),
            outcome=ended.value,
            step=self._ledger.committed,
            reason=reason,
            state_hash=saved.found.manifest.state_hash if saved else None,
        )
        self._emit(end)
        self._events.close()
        return end

    def _train(self, plane: ControlPlane) -> Outcome:
        workers = self._mission.plan.workers
        self._crew.assign([self._assignment(worker, plane) for worker in workers])
        self._crew.connect(workers)
        self._life.enter(State.TRAINING)
        training = self._crew.train(workers)
        outcomes: list[Outcome] = []
        while training or self._saver.busy or self._due:
            if self._drain.is_set() and self._life.state is State.TRAINING:
                self._life.enter(State.DRAINING)
            for future in finished([*training, *self._saver.futures], _LOOK_S):
                if future in training:
                    outcomes.append(self._outcome(training.pop(future), future, training))
                elif future in self._saver.futures:
                    self._take_saved(future)
            self._take_events()
            self._watch(training)
            if not training and self._life.state is not State.SAVING:
                self._life.enter(State.SAVING)
                self._want_checkpoint(outcomes[0].step)
            self._save_if_due()
        self._take_events()
        if self._checkpoint_step != outcomes[0].step:
            raise _Failed(
                f"{outcomes[0].step} steps are done, but their state could not be saved: "
                f"{self._unsaved}"
            )
        return outcomes[0]

    def _assignment(self, worker: int, plane: ControlPlane) -> Assignment:
        mission = self._mission
        validation = mission.validation.get(worker)
        return Assignment(
            job=mission.job,
            workload_config=mission.workload_config,
            worker=worker,
            plan=str(mission.plan),
            program=str(mission.programs[worker]),
            validation=str(validation) if validation else None,
            folder=str(mission.folder),
            resume=mission.resume,
            control_address=plane.credentials.address,
            control_token=plane.credentials.token,
        )

    def _emit(self, event: Event) -> None:
        self._events.append(event.to_json())
        self._emit_to(event)

    def _warn(self, message: str) -> None:
        self._emit(Warned(time_s=time.time(), message=message))

    # -- what workers report

    def _take_events(self) -> None:
        while True:
            try:
                event = self._arrived.get_nowait()
            except queue.Empty:
                return
            match event:
                case StepDone():
                    self._step_done(event)
                case LayersHashed():
                    self._layers_hashed(event)
                case LayersTimed():
                    self._layers_timed(event)
                case _:
                    self._emit(event)

    def _step_done(self, event: StepDone) -> None:
        self._ledger = self._ledger.commit(event.step - 1, event.samples, skipped=event.skipped)
        self._last = event
        self._emit(event)
        every, last = self._mission.job.checkpoint.every, self._mission.job.steps
        if event.step == last or (every and event.step % every == 0):
            self._want_checkpoint(event.step)

    def _layers_timed(self, event: LayersTimed) -> None:
        if not self._timings.take(event.worker, event.times):
            return
        mission = self._mission
        profile = self._timings.apply(mission.profile, f"measured before step {event.step}")
        self._emit(plan_chosen(mission.plan, mission.programs, profile, mission.exact))
        try:
            keep(mission.folder, mission.config, profile)
        except OSError as error:
            self._warn(f"the measured profile could not be kept: {error}")

    def _layers_hashed(self, event: LayersHashed) -> None:
        by_worker = self._hashed.setdefault(event.step, {})
        by_worker[event.worker] = event.hashes
        if len(by_worker) < len(self._mission.plan.workers):
            return
        del self._hashed[event.step]
        layers: dict[str, str] = {}
        for worker, hashes in sorted(by_worker.items()):
            for name, value in hashes.items():
                if layers.setdefault(name, value) != value:
                    raise ReplicasDifferError(
                        f"after step {event.step} worker {worker} holds another state of layer "
                        f"{name} than the other holders"
                    )
        total = combine({name: int(value, 16) for name, value in layers.items()})
        now = time.time()
        self._emit(StateHashed(time_s=now, step=event.step, state_hash=total, layers=layers))

    # -- checkpoints

    def _want_checkpoint(self, step: int) -> None:
        """Note that ``step``, the last committed one, is to be saved; once."""
        if step > self._wanted:
            self._wanted = step
            self._due = (step, self._ledger)

    def _save_if_due(self) -> None:
        if self._due is None or self._saver.busy:
            return
        (step, ledger), self._due = self._due, None
        try:
            self._saver.begin(step, ledger)
        except CheckpointFailedError as error:
            self._not_saved(error)

    def _not_saved(self, error: CheckpointFailedError) -> None:
        self._unsaved = str(error)
        self._warn(f"{error}; training goes on")

    def _take_saved(self, future: Any) -> None:  # noqa: ANN401 - Ray's reference
        try:
            written = self._saver.take(future)
        except CheckpointFailedError as error:
            self._not_saved(error)
            return
        if written is not None:
            found = written.found
            self._checkpoint_step = found.step
            self._emit(
                CheckpointWritten(
                    time_s=time.time(),
                    step=found.step,
                    path=str(found.folder),
                    bytes=found.manifest.total_bytes,
                    seconds=written.seconds,
                    state_hash=found.manifest.state_hash,
                )
            )

    def _manifest(
        self, step: int, files: tuple[LayerFile, ...], state_hash: str, ledger: Ledger
    ) -> Manifest:
        mission = self._mission
        return Manifest(
            job=mission.job.name,
            step=step,
            seed=mission.job.seed,
            created=utc_now(),
            config=mission.config,
            fingerprint=mission.fingerprint,
            identity=mission.identity,
            plan=str(mission.plan),
            generation=mission.plan.generation,
            layers=files,
            state_hash=state_hash,
            ledger=ledger,
        )

    # -- failures

    def _outcome(
        self,
        worker: int,
        future: Any,  # noqa: ANN401 - Ray's reference
        others: Mapping[Any, int],
    ) -> Outcome:
        outcome = self._answer(worker, future)
        if isinstance(outcome, Trouble):
            self._fail([outcome], others)
        return outcome

    def _watch(self, training: Mapping[Any, int]) -> None:
        now = time.monotonic()
        for worker in training.values():
            beat, at = self._beats.get(worker, (None, now))
            if beat is not None and now - at > self._timeouts.grace_s:
                trouble = Trouble(
                    worker=worker,
                    node=self._crew.facts[worker].node,
                    step=beat.step,
                    action=beat.action,
                    cause=f"silent for {now - at:.1f} s (detect is {self._mission.job.detect:g} s)",
                    traceback="",
                    secondary=False,
                )
                self._fail([trouble], {})

    def _answer(self, worker: int, future: Any) -> Outcome | Trouble:  # noqa: ANN401
        try:
            answer = result(future)
        except Exception as error:
            return self._trouble(worker, error)
        assert isinstance(answer, Outcome | Trouble)
        return answer

    def _trouble(self, worker: int, error: Exception) -> Trouble:
        beat, _ = self._beats.get(worker, (None, 0.0))
        cause = "its process died" if is_death(error) else f"{type(error).__name__}: {error}"
        return Trouble(
            worker=worker,
            node=self._crew.facts[worker].node,
            step=beat.step if beat else self._ledger.committed,
            action=beat.action if beat else "",
            cause=cause,
            traceback="" if is_death(error) else str(error),
            secondary=False,
        )

    def _fail(self, troubles: list[Trouble], others: Mapping[Any, int]) -> NoReturn:
        """End the run with the first cause: not with a worker that only misses another one."""
        remaining = dict(others)
        deadline = time.monotonic() + self._timeouts.suspect_s
        while remaining and all(t.secondary for t in troubles) and time.monotonic() < deadline:
            for future in finished(list(remaining), _LOOK_S):
                answer = self._answer(remaining.pop(future), future)
                if isinstance(answer, Trouble):
                    troubles.append(answer)
        self._take_events()
        first = min(troubles, key=lambda trouble: trouble.secondary)
        workers: Sequence[int] = self._mission.plan.workers
        self._emit(
            WorkerFailed(
                time_s=time.time(),
                worker=first.worker,
                node=first.node,
                rank=workers.index(first.worker),
                step=first.step,
                action=first.action,
                cause=first.cause,
                traceback=first.traceback,
            )
        )
        raise _Failed(f"worker {first.worker} failed in step {first.step}: {first.cause}")


class _Failed(Exception):
    """The run cannot go on; the text is one line."""
