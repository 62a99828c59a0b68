"""The drills on real processes: every class of failure, at every kind of point, on four layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ithaca.recovery.drill import Expectation

LAYOUTS: dict[str, dict[str, Any]] = {
    "2x1": {"pipelines": 2, "stages": 1},
    "2x2": {"pipelines": 2, "stages": 2},
    "3x1": {"pipelines": 3, "stages": 1},
    "3x2": {"pipelines": 3, "stages": 2},
}
WORKERS = {"2x1": 2, "2x2": 4, "3x1": 3, "3x2": 6}
ACTIONS = ("RECV", "F", "SEND", "B", "REDUCE", "COMMIT", "STEP")
STEPS = 8
DETECT_S = 3.0
"""Long enough for a busy machine of two cores, short enough for many drills."""


@dataclass(frozen=True)
class Case:
    """One drill.

    Attributes:
        name: of the test.
        layout: of :data:`LAYOUTS`.
        faults: as text.
        expected: what must come of it.
        changes: of the job.
        fast: it belongs to the suite; the others are run by ``make soak``.
    """

    name: str
    layout: str
    faults: tuple[str, ...]
    expected: Expectation
    changes: dict[str, Any] = field(default_factory=dict)
    fast: bool = False


def expect(*failures: str, **more: Any) -> Expectation:  # noqa: ANN401
    """The bits of the undisturbed run, and one recovery for each of ``failures``."""
    return Expectation(exit_code=None, failures=failures, **more)


def crashes() -> Iterator[Case]:
    """A kill on both sides of every kind of action, by turns of every worker."""
    points = [f"{moment} {op}" for op in ACTIONS for moment in ("before", "after")]
    points += ["after vote nth 1", "after vote nth 3"]
    for turn, point in enumerate(points):
        worker = turn % 4
        fault = f"crash w{worker} at step {2 + turn % 5} {point}"
        name = f"crash-{point.replace(' ', '-')}"
        fast = point in ("after B", "after vote nth 1", "after STEP")
        yield Case(name, "2x2", (fault,), expect("crash"), fast=fast)
    for layout, workers in WORKERS.items():
        if layout != "2x2":
            for worker in range(0, workers, 2):
                fault = f"crash w{worker} at step 4 before B"
                yield Case(f"crash-{layout}-w{worker}", layout, (fault,), expect("crash"))
    yield Case("crash-first-step", "2x2", ("crash w3 at step 1 before F",), expect("crash"))
    yield Case("crash-last-step", "2x2", (f"crash w0 at step {STEPS} before REDUCE",),
               expect("crash"))  # fmt: skip
    yield Case("crash-while-saving", "2x2", ("crash w1 at step 3 before save",), expect("crash"))
    yield Case("crash-split", "2x2", ("crash w2 at step 3 after W",), expect("crash"),
               {"layout": {"schedule": "1f1b-split"}})  # fmt: skip
    yield Case("crash-tied", "2x2", ("crash w1 at step 3 before TIE",), expect("crash"),
               {"workload": {"tied": True}})  # fmt: skip
    yield Case("crash-experts", "2x2", ("crash w1 at step 3 before B m1",), expect("crash"),
               {"workload": {"kinds": ["block", "experts", "block", "experts"]}})  # fmt: skip


def several() -> Iterator[Case]:
    """More than one: at once, one after the other, and while a recovery is under way."""
    both = ("crash w1 at step 3 before B", "crash w2 at step 3 before B")
    yield Case("two-at-once", "2x2", both, Expectation(exit_code=None))
    yield Case("two-at-once-3x2", "3x2", both, Expectation(exit_code=None))
    later = ("crash w1 at step 3 before B", "crash w2 at step 6 after F")
    yield Case("two-in-turn", "2x2", later, expect("crash", "crash"), fast=True)
    yield Case("two-of-one-stage", "3x1", ("crash w0 at step 2 before B", "crash w1 at step 5"),
               expect("crash", "crash"))  # fmt: skip
    for point in ("before stand", "after stand", "before adopt", "before meet", "after meet"):
        faults = ("crash w1 at step 3 before B", f"crash w2 at step 3 {point}")
        yield Case(f"second-{point.replace(' ', '-')}", "2x2", faults, Expectation(exit_code=None))
    yield Case("second-in-the-remainder", "3x2",
               ("crash w1 at step 3 before B", "crash w3 at step 3 before redo"),
               Expectation(exit_code=None))  # fmt: skip
    yield Case("second-in-the-remainders-reduce", "3x2",
               ("crash w1 at step 3 before REDUCE", "crash w3 at step 3 after REDUCE"),
               Expectation(exit_code=None))  # fmt: skip
    # Nobody is left who holds the second stage; a short stop lets the checkpoint of step 4 be done.
    whole = ("stop w0 at step 6 before F for 1.5s", "crash w1 at step 7 before B",
             "crash w3 at step 7 before B")  # fmt: skip
    yield Case("a-whole-stage", "2x2", whole,
               Expectation(exit_code=None, strategies=("rollback",), lost_samples=0),
               fast=True)  # fmt: skip


def hangs() -> Iterator[Case]:
    """Stopped, stuck, with the lock held; for ever, or until it was given up (a zombie)."""
    for number, point in enumerate(("before F", "before REDUCE", "after COMMIT", "after vote")):
        fault = f"stop w{number} at step 3 {point}"
        name = f"stop-{point.replace(' ', '-')}"
        yield Case(name, "2x2", (fault,), expect("hang|partition"), fast=number == 1)
    yield Case("loop-in-backward", "2x2", ("loop w1 at step 3 before B",), expect("hang"))
    yield Case("loop-before-reduce", "2x2", ("loop w2 at step 4 before REDUCE",), expect("hang"))
    yield Case("gil-in-forward", "2x2", ("gil w2 at step 3 before F",), expect("hang|partition"),
               fast=True)  # fmt: skip
    yield Case("gil-3x1", "3x1", ("gil w1 at step 3 before REDUCE",), expect("hang|partition"))
    lasting = 3 * DETECT_S
    yield Case("zombie", "2x2", (f"stop w1 at step 3 before B for {lasting}s",),
               expect("hang|partition"))  # fmt: skip
    yield Case("zombie-gil", "2x2", (f"gil w3 at step 3 before B for {lasting}s",),
               expect("hang|partition"))  # fmt: skip
    yield Case("zombie-partition", "2x2", (f"partition w0 at step 3 before B for {lasting}s",),
               Expectation(exit_code=None))  # fmt: skip
    short = DETECT_S / 4
    yield Case("stop-shorter-than-detection", "2x2", (f"stop w1 at step 3 before B for {short}s",),
               expect(recoveries=0), fast=True)  # fmt: skip


def disturbances() -> Iterator[Case]:
    """Errors, slowness, cuts, turned bits and bad disks."""
    yield Case("raise-in-forward", "2x2", ("raise w3 at step 3 before F",), expect("crash"))
    yield Case("raise-in-reduce", "2x2", ("raise w0 at step 3 before REDUCE",), expect("crash"))
    yield Case("slow", "2x2", ("slow w1 at step 2 for 2s factor 4.0",), Expectation(exit_code=None))
    yield Case("slow-3x1", "3x1", ("slow w0 at step 2 for 2s factor 3.0",),
               Expectation(exit_code=None))  # fmt: skip
    for worker, point in ((1, "before B"), (2, "before REDUCE"), (3, "before COMMIT")):
        fault = f"partition w{worker} at step 3 {point}"
        yield Case(f"partition-w{worker}", "2x2", (fault,), expect("hang|partition|crash"),
                   fast=worker == 2)  # fmt: skip
    yield Case("partition-3x1", "3x1", ("partition w2 at step 3 before F",),
               expect("hang|partition|crash"))  # fmt: skip
    yield Case("link", "2x2", ("partition w2 at step 3 before SEND from w3",), expect("partition"),
               fast=True)  # fmt: skip
    yield Case("link-between-replicas", "2x2", ("partition w3 at step 3 before REDUCE from w1",),
               expect("partition"))  # fmt: skip
    # Broken just when the others meet without a third one: nobody can tell which end is at fault.
    meeting = ("crash w5 at step 3 before B", "partition w2 at step 3 before meet from w3",
               "partition w3 at step 3 before meet from w2")  # fmt: skip
    yield Case("link-at-a-meeting", "3x2", meeting, expect("crash", "partition"))
    checked = {"integrity": {"wire": True}}
    for worker, point in ((0, "before SEND"), (2, "before REDUCE"), (3, "before SEND")):
        fault = f"flip-wire w{worker} at step 3 {point}"
        yield Case(f"flip-wire-w{worker}", "2x2", (fault,), expect("corruption"), checked,
                   fast=worker == 0)  # fmt: skip
    yield Case("flip-parameter", "2x2", ("flip-parameter w1 at step 3 before F",),
               Expectation(exit_code=None, failures=("corruption",)))  # fmt: skip
    yield Case("flip-parameter-3x1", "3x1", ("flip-parameter w1 at step 3 before REDUCE",),
               Expectation(exit_code=None, failures=("corruption",)))  # fmt: skip
    # Nobody looks at what lies in memory: only that two others hold something else tells.
    blind = {"integrity": {"state": False}, "report": {"hash_every": 1}}
    pauses = "stop w2 at step 5 before F for 1.0s"  # the checkpoint of step 4 is done by then
    yield Case("replicas-differ", "3x1", (pauses, "flip-parameter w1 at step 6 before F"),
               Expectation(exit_code=None, failures=("corruption",), strategies=("rollback",)),
               blind, fast=True)  # fmt: skip
    nobody = Expectation(outcome="failed", exit_code=None, identical=False, recoveries=0,
                         message="no majority tells which is wrong")  # fmt: skip
    yield Case("replicas-differ-of-two", "2x1", ("flip-parameter w1 at step 6 before F",), nobody,
               blind)  # fmt: skip
    yield Case("flip-gradient", "2x2", ("flip-gradient w1 at step 3 before REDUCE",),
               Expectation(exit_code=None, failures=("corruption",)))  # fmt: skip
    yield Case("flip-result", "2x2", ("flip-result w1 at step 3 before B times 64",),
               Expectation(exit_code=None, failures=("corruption", "corruption")),
               {"integrity": {"replay_every": 1}})  # fmt: skip
    for kind, worker in (("disk-full", 0), ("disk-error", 1)):
        # A short stop of somebody else, so that the first checkpoint is written before the last.
        faults = (f"{kind} w{worker} at step 2 times 1", "stop w2 at step 4 before F for 1.0s")
        yield Case(kind, "2x2", faults, expect(recoveries=0), fast=worker == 0)
    yield Case("disk-full-at-the-end", "2x2", (f"disk-full w0 at step {STEPS} times 2",),
               expect(recoveries=0))  # fmt: skip
    lasting = Expectation(outcome="failed", exit_code=None, identical=False, recoveries=0,
                          message="could not be saved")  # fmt: skip
    yield Case("disk-full-for-good", "2x2", (f"disk-full w0 at step {STEPS} times 99",), lasting)
    yield Case("disk-slow", "2x2", ("disk-slow w2 at step 2 for 1s times 2",),
               expect(recoveries=0))  # fmt: skip


def spares() -> Iterator[Case]:
    """A warm spare takes the place of the lost one."""
    # In so short a job it would not pay to take it in, so nothing else is allowed.
    changes = {"recovery": {"spares": 1, "replace": False, "strategy": "shadow"}}
    for layout, worker in (("2x2", 1), ("2x1", 0)):
        fault = f"crash w{worker} at step 3 before B"
        expected = expect("crash", strategies=("shadow",))
        yield Case(f"spare-{layout}", layout, (fault,), expected, changes)


def strategies() -> Iterator[Case]:
    """Each strategy by itself."""
    for name in ("reroute", "reshape"):
        for layout in ("2x2", "3x2"):
            fault = "crash w1 at step 3 before B"
            changes = {"recovery": {"strategy": name, "replace": False}}
            expected = expect("crash", strategies=(name,))
            yield Case(f"{name}-{layout}", layout, (fault,), expected, changes)


CASES = (*crashes(), *several(), *hangs(), *disturbances(), *spares(), *strategies())
