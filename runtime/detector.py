"""The detector: gathers what speaks against a worker until it is enough to call it a failure.

Evidence differs in weight. That Ray says a process died, or that a worker's own error came back, is
enough. A closed stream of orders is enough unless the worker opens another one at once, or sooner
if a peer misses it too. Silence and standing still are judged by :mod:`ithaca.recovery.blame`. A
peer's failed message is never enough by itself: it names who misses, not who is missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ithaca.planner.program import Program
from ithaca.recovery.blame import Reason, Sign, blame
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.runtime.control.surface import Beat
from ithaca.runtime.events import Missed
from ithaca.runtime.orders import Trouble

CONFIRM_S = 0.25
"""Longest wait for a second sign that a worker whose stream closed is dead."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker's newest beat, and when it came on the detector's clock."""

    beat: Beat
    at_s: float


class Detector:
    """Evidence of one run. Methods may be called from any thread.

    Args:
        detect_s: the user's one number.
        now: a clock in seconds that never goes back.
        beat_s: between two beats of a worker.
        node: name of a worker's machine.
        place: the node of the cluster that a worker is on; several may be on one machine.
    """

    def __init__(
        self,
        detect_s: float,
        beat_s: float,
        now: Callable[[], float],
        node: Callable[[int], str],
        place: Callable[[int], str],
    ) -> None:
        self._detect_s = detect_s
        self._beat_s = beat_s
        self._confirm_s = min(CONFIRM_S, detect_s / 8)
        self._now = now
        self._node = node
        self._place = place
        self._lock = threading.Lock()
        self._heard: dict[int, Heard] = {}
        self._expected: dict[int, float] = {}
        self._closed: dict[int, float] = {}
        self._dead: dict[int, tuple[float, str]] = {}
        self._troubles: dict[int, tuple[float, Trouble]] = {}
        self._alarms: dict[int, tuple[float, str]] = {}
        self._corrupt: dict[int, tuple[float, Missed]] = {}
        self._differing: dict[int, tuple[float, str, int]] = {}
        self._looked = now()

    # -- evidence

    def beat(self, beat: Beat) -> None:
        """A worker beat."""
        with self._lock:
            self._heard[beat.worker] = Heard(beat, self._now())

    def attends(self, worker: int) -> None:
        """A worker opened its stream of orders."""
        with self._lock:
            self._closed.pop(worker, None)

    def expect(self, worker: int) -> None:
        """From now on a worker should beat."""
        with self._lock:
            self._expected[worker] = self._now()

    def left(self, worker: int) -> None:
        """A worker's stream of orders closed."""
        with self._lock:
            self._closed.setdefault(worker, self._now())

    def died(self, worker: int, reason: str) -> None:
        """Ray says that a worker's process is gone."""
        with self._lock:
            self._dead.setdefault(worker, (self._now(), reason))

    def trouble(self, trouble: Trouble) -> None:
        """A worker's training ended with an error: its own, or a message that did not come."""
        with self._lock:
            if trouble.secondary:
                self._alarms.setdefault(trouble.worker, (self._now(), trouble.cause))
            else:
                self._troubles.setdefault(trouble.worker, (self._now(), trouble))

    def missed(self, missed: Missed) -> None:
        """A worker misses a message of another one, or got one that was not what was sent."""
        with self._lock:
            if missed.corrupt:
                self._corrupt.setdefault(missed.worker, (self._now(), missed))
            self._alarms.setdefault(missed.worker, (self._now(), missed.reason))

    def differs(self, worker: int, evidence: str, trusted: int) -> None:
        """A worker's state is not what the other holders have; all agreed after ``trusted`` steps.

        What it computed since then is in everybody's state.
        """
        with self._lock:
            self._differing.setdefault(worker, (self._now(), evidence, trusted))

    def heard(self) -> dict[int, Heard]:
        """The newest beat of each worker."""
        with self._lock:
            return dict(self._heard)

    def age_s(self, worker: int) -> float | None:
        """Seconds since a worker's last beat; None before the first."""
        with self._lock:
            heard = self._heard.get(worker)
            return None if heard is None else self._now() - heard.at_s

    # -- verdicts

    def look(
        self,
        members: Sequence[int],
        programs: Mapping[int, Sequence[Program]],
        settled_s: float,
        needed: frozenset[int] = frozenset(),
    ) -> tuple[Failure, ...]:
        """The failures that the evidence is enough for, first causes first.

        Args:
            members: who could fail.
            programs: of each, in the order in which it runs them in one step; none while nobody
                is expected to work, and then only silence is held against anybody.
            settled_s: on the detector's clock, when this began to hold.
            needed: those that nobody can take the place of.
        """
        with self._lock:
            now = self._now()
            # What was late here was late for all: it is no evidence against anybody.
            late_s = max(0.0, now - self._looked - self._beat_s)
            self._looked = now
            if late_s > 0:
                self._heard = {
                    worker: Heard(heard.beat, min(now, heard.at_s + late_s))
                    for worker, heard in self._heard.items()
                }
                self._closed = {w: min(now, at + late_s) for w, at in self._closed.items()}
            found = self._certain(members, now)
            if not found:
                found = self._suspected(members, programs, now, settled_s, needed)
            return self._whole_nodes(found, members)

    def alarmed(self, members: Iterable[int]) -> float | None:
        """For how many seconds some member has missed a message; None if nobody does."""
        with self._lock:
            since = [self._alarms[worker][0] for worker in members if worker in self._alarms]
            return self._now() - min(since) if since else None

    def clear(self, members: Iterable[int]) -> None:
        """A new generation: alarms of the old one are answered, and everybody starts afresh."""
        with self._lock:
            self._alarms.clear()
            self._corrupt.clear()
            now = self._now()
            for worker in members:
                heard = self._heard.get(worker)
                if heard is not None:
                    self._heard[worker] = Heard(heard.beat, now)

    def _certain(self, members: Sequence[int], now: float) -> list[Failure]:
        """Own errors first: they are causes. Then the dead, then those whose stream closed."""
        found = [
            self._failure(
                worker,
                FailureClass.CORRUPTION if trouble.corrupt else FailureClass.CRASH,
                at,
                trouble.cause,
                trouble,
            )
            for worker, (at, trouble) in self._troubles.items()
            if worker in members
        ]
        found += [
            self._failure(worker, FailureClass.NODE, heard.at_s, heard.beat.complaint)
            for worker, heard in self._heard.items()
            if worker in members and heard.beat.complaint and worker not in self._troubles
        ]
        found += self._differences(members)
        taken = {failure.worker for failure in found}
        for worker, (at, reason) in self._dead.items():
            if worker in members and worker not in taken:
                found.append(self._failure(worker, FailureClass.CRASH, at, reason))
                taken.add(worker)
        for worker, at in self._closed.items():
            # A peer that misses it too saves the wait; while one waits, others may close as well.
            confirmed = bool(self._alarms.keys() - {worker}) or bool(found)
            heard = self._heard.get(worker)
            if (
                worker in members
                and worker not in taken
                and (confirmed or now - at >= self._confirm_s)
                # Who still beats is not dead, whatever became of one of its connections.
                and (heard is None or heard.at_s <= at)
            ):
                reason = "it died or was cut off: its connection closed, and no other was opened"
                found.append(self._failure(worker, FailureClass.CRASH, at, reason))
        # Nobody is taken out for it, so it must not be found again while it is being answered.
        corrupt, self._corrupt = self._corrupt, {}
        found += [
            self._corruption(at, missed)
            for worker, (at, missed) in corrupt.items()
            if worker in members
        ]
        return found

    def _differences(self, members: Sequence[int]) -> list[Failure]:
        """Whose state differs is taken out; if it is gone already, what it left behind is not."""
        # Each is answered once, whether or not it takes somebody out.
        differing, self._differing = self._differing, {}
        found = []
        for worker, (at, evidence, trusted) in differing.items():
            failure = self._failure(worker, FailureClass.CORRUPTION, at, evidence)
            gone = worker not in members
            found.append(
                replace(failure, worker=None if gone else worker, trusted=trusted, action="")
            )
        return found

    def _whole_nodes(
        self, failures: Sequence[Failure], members: Sequence[int]
    ) -> tuple[Failure, ...]:
        """A node that is lost takes all its workers, whether or not they have noticed yet."""
        found = {failure.worker: failure for failure in failures}
        for failure in failures:
            if failure.kind is FailureClass.NODE and failure.worker is not None:
                for worker in members:
                    if self._place(worker) == self._place(failure.worker):
                        found.setdefault(worker, replace(failure, worker=worker, action=""))
        return tuple(found.values())

    def _corruption(self, at: float, missed: Missed) -> Failure:
        """Bytes changed on their way: nobody is to blame, but the step is not to be used."""
        return Failure(
            kind=FailureClass.CORRUPTION,
            node=self._node(missed.worker),
            generation=missed.generation,
            step=missed.step,
            action=missed.action,
            evidence=f"worker {missed.worker}: {missed.reason}",
            seen_s=at,
            since_s=at,
        )

    def _suspected(
        self,
        members: Sequence[int],
        programs: Mapping[int, Sequence[Program]],
        now: float,
        settled_s: float,
        needed: frozenset[int],
    ) -> list[Failure]:
        signs = [self._sign(worker, now, settled_s) for worker in members]
        suspects = [
            suspect
            for suspect in blame(signs, programs, self._detect_s, needed=needed)
            if programs or suspect.reason is Reason.SILENT
        ]
        kinds = {Reason.SILENT: FailureClass.HANG, Reason.OVERDUE: FailureClass.HANG,
                 Reason.CIRCLE: FailureClass.PARTITION}  # fmt: skip
        return [
            self._failure(s.worker, self._kind(s.worker, kinds[s.reason]), now, s.evidence)
            for s in suspects
        ]

    def _kind(self, worker: int, kind: FailureClass) -> FailureClass:
        """A silent worker without which others could not have gone on lives: it is cut off."""
        heard = self._heard.get(worker)
        if kind is FailureClass.HANG and heard is not None:
            further = max((h.beat.step for h in self._heard.values()), default=0)
            if further > heard.beat.step + 1:
                return FailureClass.PARTITION
        return kind

    def _sign(self, worker: int, now: float, settled_s: float) -> Sign:
        heard = self._heard.get(worker)
        settled_s = max(settled_s, self._expected.get(worker, settled_s))
        if heard is None:
            return Sign(worker, 0, 0, "", 0.0, max(0.0, now - settled_s))
        beat = heard.beat
        # Before this generation nobody was expected to move.
        since_s = min(beat.since_s, max(0.0, now - settled_s))
        return Sign(
            worker,
            beat.generation,
            beat.step,
            beat.action,
            since_s,
            min(now - heard.at_s, max(0.0, now - settled_s)),
            beat.expected_s,
        )

    def _failure(
        self,
        worker: int,
        kind: FailureClass,
        seen_s: float,
        evidence: str,
        trouble: Trouble | None = None,
    ) -> Failure:
        heard = self._heard.get(worker)
        step, action, since_s, generation = 0, "", seen_s, 0
        if heard is not None:
            step, action, generation = heard.beat.step, heard.beat.action, heard.beat.generation
            since_s = min(seen_s, heard.at_s)
        if trouble is not None:
            step, action = trouble.step, trouble.action
        return Failure(
            kind=kind,
            worker=worker,
            node=trouble.node if trouble else self._node(worker),
            generation=generation,
            step=step,
            action=action,
            evidence=evidence,
            seen_s=seen_s,
            since_s=since_s,
            traceback=trouble.traceback if trouble else "",
        )
