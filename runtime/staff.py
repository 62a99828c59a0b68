"""The staff of a run: its workers from their assignment to the end of their training."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from ithaca.runtime.crew import Crew, CrewError, Silence
from ithaca.runtime.front import Desk
from ithaca.runtime.journal import Joining, Journal
from ithaca.runtime.notes import Ended, Joined, Ready, Wrote
from ithaca.runtime.orders import Assignment, Outcome, Trouble
from ithaca.runtime.reception import tell_joined

_LOOK_S = 0.05


class Staff:
    """Workers as their controller employs them; used by the controller's thread alone.

    Attributes:
        address: of the control plane that workers report to.
        token: that opens it.
        outcomes: of those whose training has ended in order.
    """

    def __init__(self, desk: Desk, crew: Crew, journal: Journal) -> None:
        self._desk = desk
        self._crew = crew
        self._journal = journal
        self._training: dict[int, int] = {}
        self._calls = 0
        self.address = ""
        self.token = ""
        self.outcomes: dict[int, Outcome] = {}

    # -- training

    def assign(self) -> None:
        """Give everybody their layers, spares none."""
        self._crew.assign([self._assignment(worker) for worker in sorted(self._crew.facts)])

    def train(self, workers: Iterable[int]) -> None:
        """Let the engines of these workers run if they do not; they wait for their part."""
        for worker in workers:
            if worker not in self._training:
                self.outcomes.pop(worker, None)
                self._calls += 1
                self._training[worker] = self._calls
                self._crew.train(worker, partial(self._put_end, worker, self._calls))

    def at_work(self) -> list[int]:
        """Workers of the plan whose training has not ended."""
        return [worker for worker in self._desk.members.members if worker in self._training]

    def all_at_work(self) -> bool:
        """Whether nobody of the plan has ended."""
        return len(self.at_work()) == len(self._desk.members.plan.workers)

    def ended(self, note: Ended) -> None:
        """A worker's training has ended, or it will not tell how."""
        if self._training.get(note.worker) != note.call:
            return  # of a call that another one has replaced
        del self._training[note.worker]
        match note.answer:
            case Outcome():
                self.outcomes[note.worker] = note.answer
            case Trouble():
                self._desk.detector.trouble(note.answer)
            case Silence(dead=True):
                self._desk.detector.died(note.worker, note.answer.reason)
            case Silence():
                self._desk.detector.trouble(self._raised(note.worker, note.answer))

    def save(self, worker: int, step: int, folder: str) -> None:
        """Let a worker write its layers for a checkpoint."""
        mailbox = self._desk.mailbox
        self._crew.save(
            worker, step, folder, lambda answer: mailbox.put(Wrote(step, worker, answer))
        )

    # -- those that come later

    def joined(self, note: Joined) -> None:
        """A worker came up that was asked for: it gets its assignment, without layers."""
        recorder, members = self._desk.recorder, self._desk.members
        if note.facts is None:
            recorder.warn(f"worker {note.worker} did not come up: {note.reason}")
            return
        self._crew.add(note.worker, note.actor, note.facts)
        if note.worker in members.lost or note.worker in members.known:
            return  # a controller before this one knew it
        entry = Joining(time_s=time.time(), worker=note.worker, node=note.facts.node)
        self._journal.write(entry)
        members.expect(note.worker)
        self._crew.prepare(self._assignment(note.worker), partial(self._put_ready, note.worker))

    def ready(self, note: Ready) -> None:
        """A worker that came later has its assignment, or cannot take it."""
        members = self._desk.members
        if note.reason:
            self._desk.recorder.warn(f"worker {note.worker} cannot take a part: {note.reason}")
            members.retire(note.worker, note.reason)
            return
        self._desk.detector.expect(note.worker)
        members.join(note.worker)
        tell_joined(self._desk, note.worker)

    def meet(self, workers: Iterable[int], bound_s: float) -> None:
        """Wait until the driver has introduced all of these workers to a new controller.

        Raises:
            CrewError: it has not within ``bound_s`` seconds.
        """
        wanted, deadline = set(workers), time.monotonic() + bound_s
        while missing := sorted(wanted - self._crew.facts.keys()):
            if time.monotonic() > deadline:
                raise CrewError(f"nobody tells the new controller of workers {missing}")
            note = self._desk.mailbox.take(_LOOK_S)
            if isinstance(note, Joined) and note.facts is not None:
                self._crew.add(note.worker, note.actor, note.facts)

    # -- inside

    def _assignment(self, worker: int) -> Assignment:
        mission = self._desk.mission
        return Assignment(
            job=mission.job,
            workload_config=mission.workload_config,
            worker=worker,
            layers=mission.plan.held(worker) if worker in mission.plan.workers else (),
            folder=str(mission.folder),
            resume=mission.resume,
            control_address=self.address,
            control_token=self.token,
        )

    def _put_end(self, worker: int, call: int, answer: Outcome | Trouble | Silence) -> None:
        self._desk.mailbox.put(Ended(worker, call, answer))

    def _put_ready(self, worker: int, answer: Silence | None) -> None:
        reason = answer.reason if isinstance(answer, Silence) else ""
        self._desk.mailbox.put(Ready(worker, reason))

    def _raised(self, worker: int, silence: Silence) -> Trouble:
        heard = self._desk.detector.heard().get(worker)
        return Trouble(
            worker=worker,
            node=self._crew.facts[worker].node,
            step=heard.beat.step if heard else self._desk.recorder.ledger.committed,
            action=heard.beat.action if heard else "",
            cause=silence.reason,
            traceback=str(silence.error or ""),
            secondary=False,
        )
