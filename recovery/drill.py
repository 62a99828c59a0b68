"""A drill: faults on purpose, and what must come of them.

Everything here is data and pure functions of data: the random schedule of a soak from its seed,
and the verdict from what a run left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from ithaca.planner.plan import Plan
from ithaca.recovery.fault import TAKES_TIME, TAKES_TIMES, Fault, FaultKind, Moment
from ithaca.recovery.timeline import Account, Episode

LETHAL = frozenset(
    {FaultKind.CRASH, FaultKind.STOP, FaultKind.LOOP, FaultKind.GIL, FaultKind.RAISE,
     FaultKind.PARTITION, FaultKind.KILL_RAYLET, FaultKind.STOP_RAYLET}
)  # fmt: skip
"""After these the worker is gone for good, unless the fault is over before anybody notices."""
_POINTS = ("RECV", "SEND", "F", "B", "REDUCE", "COMMIT", "STEP")


@dataclass(frozen=True, slots=True)
class Soak:
    """A random schedule.

    Attributes:
        seed: of everything random in it.
        faults: how many.
        kinds: that may be drawn.
        first: the first step in which one may come.
        last: the last one.
        for_s: how long faults last that last; None for ever, where that can be.
    """

    seed: int
    faults: int
    kinds: tuple[FaultKind, ...]
    first: int
    last: int
    for_s: float | None = None

    def schedule(self, workers: Sequence[int]) -> tuple[Fault, ...]:
        """The faults, by step; nothing is drawn for a worker that was taken out before.

        Raises:
            ValueError: there are more lethal faults to come than workers but one.
        """
        rng = Random(self.seed)
        left = list(workers)
        drawn = []
        for step in sorted(rng.randint(self.first, self.last) for _ in range(self.faults)):
            kind = rng.choice(self.kinds)
            target = rng.choice(left)
            if kind in LETHAL:
                left.remove(target)
            if not left:
                raise ValueError(
                    f"{self.faults} faults leave none of {len(workers)} workers; draw fewer, or "
                    "kinds that a worker survives"
                )
            drawn.append(self._draw(rng, kind, target, step))
        return tuple(drawn)

    def _draw(self, rng: Random, kind: FaultKind, target: int, step: int) -> Fault:
        needs_s = kind in TAKES_TIME and (self.for_s is not None or kind is FaultKind.SLOW)
        disk = kind in TAKES_TIMES
        return Fault(
            kind,
            target,
            step,
            rng.choice(list(Moment)) if not disk else Moment.BEFORE,
            "" if disk else rng.choice(_POINTS),
            for_s=(self.for_s or 5.0) if needs_s or kind is FaultKind.DISK_SLOW else None,
        )


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come of a drill; None asks nothing.

    Attributes:
        outcome: how the run ends: ``finished``, ``drained`` or ``failed``.
        exit_code: of the command that runs the job.
        identical: state, loss and norm of every step are the bits of the undisturbed run.
        failures: classes of the failures, in the order in which they are noticed.
        strategies: what was decided in each recovery, or one of them, in order; ``|`` separates
            alternatives.
        recoveries: how many, not counting changes of plan that no failure forced.
        max_pause_s: the longest pause.
        max_detect_s: the longest time from a fault until it is noticed.
        max_redone: the most micro-batches that one recovery does again.
        lost_samples: in all.
        message: what the last record's reason, or the command's output, contains.
    """

    outcome: str | None = "finished"
    exit_code: int | None = 0
    identical: bool = True
    failures: tuple[str, ...] | None = None
    strategies: tuple[str, ...] | None = None
    recoveries: int | None = None
    max_pause_s: float | None = None
    max_detect_s: float | None = None
    max_redone: int | None = None
    lost_samples: int = 0
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The bits of a run: of each step, the last record. Equal traces are equal runs.

    Attributes:
        states: hash of parameters and optimizer state, by committed steps.
        losses: loss, auxiliary loss, norm and number of samples, exactly, by step.
    """

    states: Mapping[int, str]
    losses: Mapping[int, tuple[str, str, str, int]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a disturbed run left behind.

    Attributes:
        outcome: of the last record; None if there is no last record.
        exit_code: of the command; None if the run was not a command's.
        text: the last reason, and what the command printed.
        trace: its bits.
        account: its failures and recoveries.
        struck: texts of the faults that were carried out.
        plans: by generation.
    """

    outcome: str | None
    exit_code: int | None
    text: str
    trace: Trace
    account: Account
    struck: tuple[str, ...] = ()
    plans: Mapping[int, Plan] = field(default_factory=dict)


def judge(
    expected: Expectation, result: Result, reference: Trace, faults: Sequence[Fault]
) -> tuple[str, ...]:
    """What is not as expected, a line each; nothing if the drill was passed.

    A fault that was never carried out fails the drill: it would have shown nothing.
    """
    first = result.plans[min(result.plans)] if result.plans else None
    placed = [str(fault.on(first) if first else fault) for fault in faults]
    problems = [f"the fault '{text}' never struck" for text in placed if text not in result.struck]
    problems += _ending(expected, result)
    if expected.identical:
        problems += differences(result.trace, reference)
    for episode in result.account.episodes:
        problems += _beyond_stage(episode, result.plans)
    return (*problems, *_recoveries(expected, result.account))


def differences(trace: Trace, reference: Trace, most: int = 3) -> list[str]:
    """Where two runs part: the first few steps."""
    problems = []
    whole = set(reference.losses)
    missing, more = sorted(whole - set(trace.losses)), sorted(set(trace.losses) - whole)
    if missing:
        problems.append(f"steps {missing[:most]} of the undisturbed run were never done")
    if more:
        problems.append(f"steps {more[:most]} are not in the undisturbed run")
    for name, ours, theirs in (
        ("state", trace.states, reference.states),
        ("loss, norm or samples", trace.losses, reference.losses),
    ):
        same: Mapping[int, object] = theirs
        parted = [step for step in sorted(same) if step in ours and ours[step] != same[step]]
        problems += [
            f"after step {step}: {name} is {ours[step]}, undisturbed {same[step]}"
            for step in parted[:most]
        ]
    if not set(reference.states) <= set(trace.states):
        lacking = sorted(set(reference.states) - set(trace.states))
        problems.append(f"no hash of the state after steps {lacking[:most]}")
    return problems


def _ending(expected: Expectation, result: Result) -> list[str]:
    problems = []
    if expected.outcome is not None and result.outcome != expected.outcome:
        ended = result.outcome or "without a last record"
        problems.append(f"the run ended {ended}, not {expected.outcome}: {result.text[-300:]}")
    known = None not in (expected.exit_code, result.exit_code)
    if known and expected.exit_code != result.exit_code:
        problems.append(f"exit code {result.exit_code}, not {expected.exit_code}")
    if expected.message is not None and expected.message not in result.text:
        problems.append(f"nothing says {expected.message!r}: {result.text[-300:]}")
    return problems


def _recoveries(expected: Expectation, account: Account) -> list[str]:
    problems = []
    ended = [each for each in account.episodes if each.recovered and each.notices]
    if expected.recoveries is not None and len(ended) != expected.recoveries:
        problems.append(f"{len(ended)} recoveries, not {expected.recoveries}")
    noticed = [notice.failure for each in account.episodes for notice in each.notices]
    if expected.failures is not None and not _alike(noticed, expected.failures):
        problems.append(f"noticed were {noticed}, not {list(expected.failures)}")
    taken = [{e.strategy, *(choice.strategy for choice in e.choices)} for e in ended]
    wanted = expected.strategies
    if wanted is not None and not (
        len(taken) == len(wanted)
        and all(names & set(each.split("|")) for names, each in zip(taken, wanted, strict=True))
    ):
        found = [" and ".join(sorted(names)) for names in taken]
        problems.append(f"recovered by {found}, not by {list(wanted)}")
    lost = sum(episode.lost_samples for episode in ended)
    if lost != expected.lost_samples:
        problems.append(f"{lost} samples lost or repeated, not {expected.lost_samples}")
    limits = (
        ("pause", expected.max_pause_s, [episode.pause_s for episode in ended], "s"),
        ("detection", expected.max_detect_s, [episode.latency_s for episode in ended], "s"),
        ("work done again", expected.max_redone, [e.redone_micro_batches for e in ended],
         "micro-batches"),
    )  # fmt: skip
    for what, limit, values, unit in limits:
        worst = max((value for value in values if value is not None), default=None)
        if limit is not None and worst is not None and worst > limit:
            problems.append(f"{what}: {worst:.3g} {unit}, more than {limit:g} {unit}")
    return problems


def _beyond_stage(episode: Episode, plans: Mapping[int, Plan]) -> list[str]:
    """Rerouting repeats work on the layers of those that were lost, and on no others."""
    if episode.strategy != "reroute" or not episode.recovered:
        return []
    lost: set[int] = set()
    for notice in episode.notices:
        plan = plans.get(notice.generation)
        if plan is None or notice.worker is None or notice.worker not in plan.workers:
            return []
        lost.update(plan.held(notice.worker))
    return [
        f"reroute repeated {row['op']} {row['first']}:{row['last']} m{row['micro_batch']}, "
        f"layers that nobody lost"
        for row in episode.redone
        if not lost.issuperset(range(row["first"], row["last"]))
    ]


def _alike(found: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether each of ``found`` is one of the alternatives at its place in ``wanted``."""
    return len(found) == len(wanted) and all(
        each in choice.split("|") for each, choice in zip(found, wanted, strict=True)
    )
