"""How long a recovery waits for everybody, and what it holds against those who do not answer.

A wait ends with everybody's answer, at its bound, or as soon as somebody is known to have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ithaca.recovery.blame import OVERDUE_FACTOR
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.meeting import kept_apart
from ithaca.recovery.standing import Standing
from ithaca.runtime.crew import Silence
from ithaca.runtime.engine.drive import ChannelFailed
from ithaca.runtime.front import Desk
from ithaca.runtime.timeouts import Timeouts

UNMET = 2
"""So many meetings that fail, nobody being lost, are taken for a broken link."""
DUMP_S = 0.03
"""Longest wait for stacks, once everybody stands; one that is stopped cannot tell its own."""
_LOOK_S = 0.02
"""Longest wait for answers before other evidence is looked at."""
_STANDING, _ORDERS = "when everybody had to stand", "when it got its orders"


class MoreError(Exception):
    """Further workers failed, or nobody did and yet not everybody answered: begin anew."""

    def __init__(
        self, failures: Sequence[Failure], reason: str = "", apart: int | None = None
    ) -> None:
        super().__init__(reason)
        self.failures = tuple(failures)
        self.apart = apart
        """Who lives, but keeps the others from meeting."""


class Pending(Protocol):
    """A call to some workers that is under way."""

    @property
    def waiting(self) -> frozenset[int]:
        """Workers that have not answered yet."""

    def poll(self, bound_s: float) -> dict[int, Any]:
        """The answers so far; waits at most ``bound_s`` seconds for all."""


class Patience:
    """The waits of one run's recoveries; used by the controller's thread alone.

    Args:
        desk: shared with the control plane.
        dump: asks workers for the stacks of all their threads; answers are texts.
        look: takes notes and says which workers have failed since.
        now: the run's clock in seconds.
        timeouts: of the run.
    """

    def __init__(
        self,
        desk: Desk,
        dump: Callable[[Iterable[int]], Pending],
        look: Callable[[], tuple[Failure, ...]],
        now: Callable[[], float],
        timeouts: Timeouts,
    ) -> None:
        self._desk = desk
        self._dump = dump
        self._look = look
        self._now = now
        self._timeouts = timeouts

    def stand(self, pending: Pending) -> dict[int, Standing]:
        """The standing of everybody who was asked for it.

        Raises:
            MoreError: somebody failed, or did not answer in time.
        """
        answers = self._everybody(pending, self._stand_s(), _STANDING)
        silent = {w: each for w, each in answers.items() if not isinstance(each, Standing)}
        if silent:
            raise MoreError([self._silent(w, each, _STANDING) for w, each in silent.items()])
        return answers

    def meet(self, pending: Pending, meanwhile: Callable[[], None]) -> None:
        """Until everybody has taken its orders and met the others; ``meanwhile`` at every look.

        Those that only failed to meet others are not to blame while somebody is dead or late.

        Raises:
            MoreError: somebody failed, did not answer in time, or did not meet the others.
        """
        bound_s = self._timeouts.suspect_s + 2 * self._timeouts.grace_s
        answers = self._everybody(pending, bound_s, _ORDERS, meanwhile)
        silent = {w: answer for w, answer in answers.items() if isinstance(answer, Silence)}
        if not silent:
            return
        gone = [
            self._silent(worker, answer, _ORDERS)
            for worker, answer in silent.items()
            if answer.dead or answer.error is None
        ]
        reasons = "; ".join(f"worker {w}: {s.reason}" for w, s in sorted(silent.items()))
        told = {
            worker: each.error.absent if isinstance(each.error, ChannelFailed) else frozenset[int]()
            for worker, each in silent.items()
        }
        raise MoreError(gone, reasons, kept_apart(told, len(answers), self._desk.members.needed))

    def cut_off(self, worker: int, reasons: str) -> Failure:
        """The failure of a worker that lives, but kept the others from meeting."""
        evidence = f"it lives, but {UNMET} times not everybody could meet: {reasons}"
        return self._failure(worker, FailureClass.PARTITION, evidence)

    def _everybody(
        self,
        pending: Pending,
        bound_s: float,
        when: str,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[int, Any]:
        """Everybody's answer, or :class:`MoreError` as soon as somebody is known to have failed.

        Who has not answered within the bound has failed; if nobody has, it is nobody's fault.
        """
        deadline = self._now() + bound_s
        while True:
            answers = pending.poll(_LOOK_S)
            further = self._look()
            if not further and self._now() >= deadline and pending.waiting:
                if not answers and len(pending.waiting) > 1:
                    raise MoreError((), f"nobody answered within {bound_s:g} s {when}")
                further = self._late(pending.waiting, bound_s, when)
            if further:
                raise MoreError(further)
            if not pending.waiting:
                return answers
            meanwhile()

    def _late(self, workers: Iterable[int], bound_s: float, when: str) -> tuple[Failure, ...]:
        """The failures of those who did not answer, with what they were doing."""
        answer = Silence(f"did not answer within {bound_s:g} s")
        # Asked for before the fence, which changes it.
        stacks = {w: s for w, s in self._dump(workers).poll(DUMP_S).items() if isinstance(s, str)}
        return tuple(
            replace(self._silent(worker, answer, when), traceback=stacks.get(worker, ""))
            for worker in sorted(workers)
        )

    def _silent(self, worker: int, answer: Silence, when: str) -> Failure:
        kind = FailureClass.CRASH if answer.dead else FailureClass.HANG
        heard = self._desk.detector.heard().get(worker)
        failure = self._failure(worker, kind, f"{answer.reason} {when}")
        return replace(failure, action=heard.beat.action if heard else "")

    def _failure(self, worker: int, kind: FailureClass, evidence: str) -> Failure:
        now = self._now()
        return Failure(
            kind=kind,
            worker=worker,
            node=self._desk.facts[worker].node,
            generation=self._desk.members.generation,
            step=self._desk.recorder.ledger.committed,
            evidence=evidence,
            seen_s=now,
            since_s=now,
        )

    def _stand_s(self) -> float:
        """A worker comes to a named point behind the action that it is in."""
        heard = self._desk.detector.heard().values()
        longest_s = max((each.beat.expected_s for each in heard), default=0.0)
        calm_s = max(self._timeouts.suspect_s, OVERDUE_FACTOR * longest_s)
        if self._desk.members.settled < self._desk.members.plan.generation:
            # They may still be waiting for somebody who never comes.
            return calm_s + self._timeouts.grace_s
        return calm_s
