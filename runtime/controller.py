"""The controller: takes a job from its assignment to its last checkpoint.

It decides and records; it is not on the path of a step. Workers train on their own, report over
the control plane, and answer when they are done. Everything that happens reaches one mailbox, and
one thread acts on it. A controller that takes over from another one finds its way back from the
journal, the log and what the workers say; they train on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program
from ithaca.recovery.failure import Failure
from ithaca.recovery.fault import CONTROLLER, Fault
from ithaca.runtime.account import Account
from ithaca.runtime.brain import Brain
from ithaca.runtime.changes import Changes
from ithaca.runtime.config.recovery import Choice
from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.plane import ControlPlane
from ithaca.runtime.crew import Crew, CrewError
from ithaca.runtime.detector import Detector
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, Missed, RunEnded, StepDone, WorkerFailed
from ithaca.runtime.faults.injector import Injector
from ithaca.runtime.faults.schedule import struck
from ithaca.runtime.front import Desk, Front, fed
from ithaca.runtime.journal import Closed, Journal
from ithaca.runtime.keeper import Keeper
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.membership import Membership
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import (
    Differ,
    Ended,
    Gone,
    HeadLost,
    Joined,
    Leave,
    Mailbox,
    Moved,
    Note,
    Paused,
    Ready,
    Stepped,
    Wake,
    Wrote,
)
from ithaca.runtime.reception import announce, take_over
from ithaca.runtime.recorder import Recorder, ReplicasDifferError
from ithaca.runtime.recovery_run import Recovery, RefusedError, Ways
from ithaca.runtime.staff import Staff
from ithaca.runtime.states import Life, State
from ithaca.runtime.timeouts import Timeouts

_LOOK_S = 0.05
"""Longest rest of the controller's thread: evidence is weighed that often."""
_LAST_TRIES = 3
"""So often the end of a run is saved, ``detect`` apart, before the run counts as failed."""


class Controller:
    """Runs one mission on a crew.

    Args:
        mission: what to do.
        crew: warm workers; those named in the plan are used, the others are spares.
        emit: takes every event, in order.
        journal: of this run, just opened.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        mission: Mission,
        crew: Crew,
        emit: Callable[[Event], None],
        journal: Journal,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mission, self._crew, self._journal, self._now = mission, crew, journal, now
        self._timeouts = Timeouts.from_detect(mission.job.detect)
        self._life = Life()
        self._mailbox = Mailbox()
        self._feed = EventFeed()
        resume = mission.resume
        self._recorder = Recorder(
            mission,
            fed(self._feed, emit),
            resume.manifest.ledger if resume else Ledger(),
            lambda event, ledger: self._mailbox.put(Stepped(event, ledger)),
            lambda error: self._mailbox.put(Differ(error)),
            self._missed,
            lambda event: self._mailbox.put(Moved(event)),
            OptimizerSettings.of(mission.job).rate,
        )
        self._members = Membership(mission.plan, crew.facts)
        self._keeper = Keeper(mission, lambda *what: self._staff.save(*what), self._recorder.emit)
        self._detector = Detector(
            self._timeouts.suspect_s,
            self._timeouts.beat_s,
            now,
            lambda worker: crew.facts[worker].node,
            lambda worker: crew.facts[worker].place,
        )
        desk = Desk(
            mission, crew.facts, self._members, self._recorder, self._keeper, self._detector,
            self._mailbox, self._life, self._feed,
        )  # fmt: skip
        self._desk = desk
        self._faults = Injector(CONTROLLER, self._recorder.emit)
        self.front = Front(desk, self._faults)
        self._staff = Staff(desk, crew, journal)
        if mission.job.drills:
            done = struck(mission.folder)
            self._faults.arm(Fault.parse(text) for text in mission.job.faults if text not in done)
        self._account = Account(now, lambda: self._recorder.profile, None)
        self._brain = Brain(
            mission,
            lambda: self._recorder.profile,
            lambda worker: crew.facts[worker].place or crew.facts[worker].node,
            now,
        )
        self._recovery = Recovery(
            desk,
            crew,
            self.front.roll,
            self._brain,
            journal,
            self._account,
            self._timeouts,
            Ways(self._certain, self._staff.train, self._go_on, self._point),
        )
        self._changes = Changes(desk, self._recovery, journal, crew.pause, now)
        self._programs: Mapping[int, Sequence[Program]] = {}
        self._settled_s = now()
        self._head_lost: tuple[str, float] | None = None
        self._tries, self._again_s = 0, 0.0
        """How often the end was to be saved, and when it may be tried again."""
        self.wanted = 0
        """Workers that were asked for in addition to those that the run began with."""

    def prepare(self) -> None:
        """Go on where another controller of the run was; before anybody may call."""
        if self._journal.history.plan is not None:
            self._keeper.know(take_over(self._desk, self._journal.history))
            self._point("after", "restart")

    def put(self, note: Note) -> None:
        """Let the controller's thread know of something. From any thread."""
        self._mailbox.put(note)

    # -- the run

    def run(self, plane: ControlPlane) -> RunEnded:
        """Carry the mission out; the last event, which was emitted too.

        Raises:
            UserError: the workers cannot build the workload, or a checkpoint does not fit.
        """
        try:
            self._start(plane)
            while not self._over():
                self._turn()
            ended, reason = self._finished()
        except (RefusedError, CrewError) as failed:
            ended, reason = State.FAILED, str(failed)
        except UserError as error:
            self._end(State.FAILED, str(error))
            raise
        return self._end(ended, reason)

    def _start(self, plane: ControlPlane) -> None:
        self._staff.address, self._staff.token = plane.credentials.address, plane.credentials.token
        if self._journal.history.plan is None:
            announce(self._desk, self._journal.history.controllers == 1)
            self._staff.assign()
            self._life.enter(State.TRAINING)
            self._settled_s = self._now()
            self._staff.train(self._mission.plan.workers)
            self._recovering(lambda: self._recovery.begin(self._mission.programs), ())
            return
        self._staff.meet(self._members.plan.workers, self._timeouts.join_s)
        self._life.enter(State.TRAINING)
        self._staff.train(self._members.plan.workers)
        self._go_on(self._members.plan)
        if self._journal.history.unsettled:
            trusted = self._journal.history.trusted
            self._recovering(lambda: self._recovery.answer((), trusted), ())

    def _turn(self) -> None:
        note = self._mailbox.take(_LOOK_S)
        while note is not None:
            self._read(note)
            note = self._mailbox.take(0.0)
        if self.front.draining and self._life.state is State.TRAINING:
            self._life.enter(State.DRAINING)
        members = self._members
        failures = self._detector.look(
            members.members, self._programs, self._settled_s, members.needed
        )
        if failures or self._stuck():
            self._recovering(lambda: self._recovery.answer(failures), failures)
        elif self._may_change() and self._staff.all_at_work():
            self._recovering(self._changes.go_on, ())
        self._keeper.go_on()
        if not self._staff.at_work() and self._life.state is not State.SAVING:
            self._life.enter(State.SAVING)
        if self._life.state is State.SAVING:
            self._save_last()
        self._check_head()
        if self._mailbox.empty():
            self._brain.think()

    def _over(self) -> bool:
        """Whether the run has come to its end, and the end is saved or cannot be."""
        if self._life.state is not State.SAVING or self._keeper.busy:
            return False
        return self._keeper.step == self._step() or self._tries == _LAST_TRIES

    def _save_last(self) -> None:
        """Save the end of the run, more than once if need be: a disk may be full for a moment."""
        now = self._now()
        if self._over() or self._keeper.busy or now < self._again_s:
            return
        self._tries, self._again_s = self._tries + 1, now + self._timeouts.suspect_s
        left = _LAST_TRIES - self._tries
        self._keeper.last(self._step(), self._recorder.ledger, left)

    def _may_change(self) -> bool:
        """Whether a change of plan may go on: a drain begins none, but ends what others wait in."""
        return self._life.state is State.TRAINING or self._changes.under_way

    def _finished(self) -> tuple[State, str]:
        step = self._step()
        if self._keeper.step != step:
            raise RefusedError(
                f"{step} steps are done, but their state could not be saved: {self._keeper.unsaved}"
            )
        reason = f"{step} of {self._mission.job.steps} steps are done"
        if self._head_lost is not None:
            return State.FAILED, f"{self._head_lost[0]}; {reason} and saved"
        drained = any(outcome.drained for outcome in self._staff.outcomes.values())
        return (State.DRAINED if drained else State.FINISHED), reason

    def _step(self) -> int:
        return max(
            (o.step for o in self._staff.outcomes.values()), default=self._recorder.ledger.committed
        )

    def _end(self, ended: State, reason: str) -> RunEnded:
        self._life.enter(ended)
        self._crew.hang_up(self._timeouts.grace_s)
        end = RunEnded(
            time_s=time.time(),
            outcome=ended.value,
            step=self._recorder.ledger.committed,
            reason=reason,
            state_hash=self._keeper.state_hash,
        )
        self._recorder.emit(end)
        self._journal.write(Closed(time_s=time.time(), outcome=ended.value))
        self.front.roll.close()
        self._feed.close()
        return end

    # -- what happens

    def _point(self, moment: str, name: str) -> None:
        """A named point of this process: a drill may strike."""
        self._faults.at(self._recorder.ledger.committed, moment, name)

    def _read(self, note: Note) -> None:
        match note:
            case Ended():
                self._staff.ended(note)
            case Wrote():
                self._point("before", "checkpoint")
                self._keeper.take(note.step, note.worker, note.answer)
            case Stepped():
                self._stepped(note.event, note.ledger)
            case Moved():
                self._account.moved(note.event)
            case Gone():
                if note.who.worker not in self._members.lost:
                    self._detector.left(note.who.worker)
            case Differ():
                self._differ(note.error)
            case HeadLost():
                self._head_lost = (note.reason, self._now() + self._timeouts.drain_s)
                self.front.request_drain()
            case Joined():
                self._staff.joined(note)
            case Ready():
                self._staff.ready(note)
                self._changes.consider()
            case Paused():
                self._changes.paused(note)
            case Leave():
                self._members.leaving.add(note.worker)
                self._changes.consider()

    def _stepped(self, event: StepDone, ledger: Ledger) -> None:
        self._point("before", "record")
        self._keeper.done(event, ledger)
        self._brain.watch(self._members.plan, event.seconds)
        recovered = self._account.step(event)
        if recovered is not None:
            self._recorder.emit(recovered)
            self._brain.recovered(recovered.phases)

    # -- failures

    def _recovering(self, act: Callable[[], None], failures: Sequence[Failure]) -> None:
        """Do ``act``, which may change the plan; the run ends if it finds nothing that can be."""
        back, generation = self._life.state, self._members.settled
        if failures:
            self._life.enter(State.RECOVERING)
            self._changes.forget()
        try:
            if self._mission.job.recovery.strategy is Choice.NONE and failures:
                raise RefusedError("recovery.strategy is none")
            act()
        except RefusedError as refused:
            first = failures[0] if failures else self._recovery.first
            if first is None:
                raise
            self._fail(first, str(refused))
        if failures:
            self._life.enter(State.TRAINING if back is State.SAVING else back)
        if self._members.settled != generation:
            self._replace()

    def _replace(self) -> None:
        """Ask for a new worker in the place of each that is gone."""
        if self._mission.job.recovery.replace:
            self.wanted = max(self.wanted, len(self._members.lost))
        self._changes.consider()

    def _fail(self, first: Failure, refusal: str) -> None:
        """End the run with its first cause."""
        workers = self._mission.plan.workers
        worker = -1 if first.worker is None else first.worker
        who = f"worker {worker} failed" if worker >= 0 else first.kind.value
        self._recorder.emit(
            WorkerFailed(
                time_s=time.time(),
                worker=worker,
                node=first.node,
                rank=workers.index(worker) if worker in workers else -1,
                step=first.step,
                action=first.action,
                cause=first.evidence,
                traceback=first.traceback,
            )
        )
        raise RefusedError(f"{who} in step {first.step}: {first.evidence}; {refusal}")

    def _certain(self) -> tuple[Failure, ...]:
        """What is certain by now, for a recovery that is under way."""
        note = self._mailbox.take(0.0)
        while note is not None:
            self._read(note)
            note = self._mailbox.take(0.0)
        return self._detector.look(tuple(self._members.known), {}, self._settled_s)

    def _stuck(self) -> bool:
        """Somebody misses a message, and nothing tells whose: meeting anew heals what can be."""
        waited_s = self._detector.alarmed(self._members.members)
        return waited_s is not None and waited_s > self._timeouts.suspect_s

    def _differ(self, error: ReplicasDifferError) -> None:
        """Whoever differs from the others is to go, and what it may have spoiled with it."""
        if not error.workers:
            self._keeper.discard_after(error.agreed)
            kept = self._keeper.step
            left = "none is left" if kept is None else f"--resume goes on from step {kept}"
            raise RefusedError(
                f"{error}; no majority tells which is wrong. The last state that all agreed on is "
                f"that after step {error.agreed}: later checkpoints are removed, {left}"
            )
        for worker in error.workers:
            self._detector.differs(worker, str(error), error.agreed)

    def _check_head(self) -> None:
        if self._head_lost is not None and self._now() > self._head_lost[1]:
            kept = self._keeper.step
            saved = "nothing is saved" if kept is None else f"step {kept} is the last one saved"
            raise RefusedError(f"{self._head_lost[0]}; {saved}")

    # -- what others call

    def _go_on(self, plan: Plan) -> None:
        """Everybody in ``plan`` trains under it."""
        self._programs = {w: (p,) for w, p in self._recorder.programs.items()}
        self._settled_s = self._now()
        self._detector.clear(plan.workers)
        self._brain.entered(plan)
        self._brain.prepare(plan, sorted(self._members.spares), self._keeper.step)

    def _missed(self, missed: Missed) -> None:
        if missed.worker in self._members.members:
            self._detector.missed(missed)
            self._mailbox.put(Wake())
