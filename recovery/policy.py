"""What the user allows: how few workers, how many failures, which machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.score import node_of
from ithaca.recovery.strategy import Situation, StrategyName

REPEATS = 3
"""So many identical failures at the same step are not met with the same answer again (I7)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits within which a decision is taken.

    Attributes:
        min_workers: fewer are not trained on.
        max_failures: of the whole job; None for any number.
        quarantine_failures: a machine with so many failures within the window takes no part.
        quarantine_s: that window, in seconds.
        notice_s: how long a worker with a notice stays, if the notice does not say.
        strategies: the only answers that may be given; None for all. Refusing is always possible.
    """

    min_workers: int = 1
    max_failures: int | None = None
    quarantine_failures: int = 3
    quarantine_s: float = 3600.0
    notice_s: float = 30.0
    strategies: frozenset[StrategyName] | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """One recovery: what failed together, and what was done; None while that is undecided."""

    failures: tuple[Failure, ...]
    answer: StrategyName | None = None

    @property
    def is_notice(self) -> bool:
        """Whether nothing has failed yet."""
        return all(failure.kind is FailureClass.NOTICE for failure in self.failures)


def quarantined(
    situation: Situation, hazard: Hazard, policy: Policy, now_s: float
) -> frozenset[int]:
    """Spares on machines that have failed too often lately; nobody if there is one machine only."""
    if (
        len({node_of(worker, situation) for worker in (*situation.plan.workers, *situation.spares)})
        < 2
    ):
        return frozenset()
    since_s = now_s - policy.quarantine_s
    return frozenset(
        worker
        for worker in situation.spares
        if hazard.failures_since(node_of(worker, situation), since_s) >= policy.quarantine_failures
    )


def worn_out(history: Sequence[Incident]) -> tuple[frozenset[StrategyName], str]:
    """Answers that may not be given again to the last incident of ``history``, and why.

    The last incident is the one to decide on. An answer is worn out once the same failure (class,
    step and action) has come back ``REPEATS`` - 1 times in spite of the answers given.
    """
    if not history or history[-1].is_notice:
        return frozenset(), ""
    names = {failure.identity: failure for failure in history[-1].failures}
    before = [
        incident
        for incident in history[:-1]
        if not incident.is_notice and any(f.identity in names for f in incident.failures)
    ]
    if len(before) < REPEATS - 1:
        return frozenset(), ""
    same = next(
        names[failure.identity] for failure in before[-1].failures if failure.identity in names
    )
    where = f" in {same.action!r}" if same.action else ""
    reason = (
        f"{same.kind.value} at step {same.step}{where} has come {len(before) + 1} times; "
        f"the cause: {cause(same)}"
    )
    return frozenset(i.answer for i in before if i.answer is not None), reason


def cause(failure: Failure) -> str:
    """The first thing to look at: the last line of the traceback, else the evidence."""
    lines = [line for line in failure.traceback.splitlines() if line.strip()]
    return lines[-1].strip() if lines else failure.evidence or "not known"


def overdrawn(history: Sequence[Incident], policy: Policy) -> str:
    """Why ``max_failures`` forbids to go on; empty if it does not."""
    failed = sum(not incident.is_notice for incident in history)
    if policy.max_failures is None or failed <= policy.max_failures:
        return ""
    return f"{failed} failures, and max_failures allows {policy.max_failures}"
