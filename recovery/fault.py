"""A fault that a drill causes on purpose: what, to whom, and at which named point; as one line.

``crash w1 at step 3 before B m2`` kills worker 1 with SIGKILL when it is about to begin the
backward of micro-batch 2 in the third step. ``stop controller at step 5 for 6s`` stops the
controller's process with SIGSTOP and lets it go on after six seconds. The line is what a job, a
drill and a control message carry, and :meth:`Fault.parse` reads it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

from ithaca.planner.plan import Plan


class FaultKind(Enum):
    """What is done; the value is the word in the text form."""

    CRASH = "crash"
    """SIGKILL to the process itself."""
    STOP = "stop"
    """SIGSTOP; after ``for`` SIGCONT. A stop that outlasts detection makes a zombie."""
    LOOP = "loop"
    """The engine's thread loops in Python and comes to no end; other threads run."""
    GIL = "gil"
    """A call into C keeps the interpreter's lock: no thread of the process runs."""
    RAISE = "raise"
    """An exception in the engine's thread."""
    SLOW = "slow"
    """SIGSTOP and SIGCONT in turn: the process runs ``factor`` times slower."""
    PARTITION = "partition"
    """Nothing more arrives on any connection of the process, and next to nothing leaves; with
    ``from`` only on those with that worker, which has to be on the same machine."""
    FLIP_PARAMETER = "flip-parameter"
    """One bit of a parameter, at rest."""
    FLIP_GRADIENT = "flip-gradient"
    """One bit of a gradient that was summed."""
    FLIP_RESULT = "flip-result"
    """One bit of each of the next ``times`` weight gradients that a layer computes."""
    FLIP_WIRE = "flip-wire"
    """One bit of the next message that is sent."""
    DISK_FULL = "disk-full"
    """The next ``times`` writes fail with ENOSPC."""
    DISK_ERROR = "disk-error"
    """The next ``times`` writes fail with EIO."""
    DISK_SLOW = "disk-slow"
    """The next ``times`` writes take ``for`` longer."""
    KILL_RAYLET = "kill-raylet"
    """SIGKILL to the Ray daemon of the worker's node."""
    STOP_RAYLET = "stop-raylet"
    """SIGSTOP to the Ray daemon of the worker's node; after ``for`` SIGCONT."""
    KILL_HEAD = "kill-head"
    """SIGKILL to Ray's control store (GCS) on the worker's node."""
    NOTICE = "notice"
    """The worker's node is told that it will be taken away in ``for``."""


class Moment(Enum):
    """On which side of a point."""

    BEFORE = "before"
    AFTER = "after"


class FaultError(ValueError):
    """A fault cannot be read or cannot be done; the text says what is valid."""


CONTROLLER = "controller"
ACTIONS = (
    "F", "B", "I", "W", "SEND", "RECV", "REDUCE", "SPREAD", "TIE", "COMMIT", "STEP",
)  # fmt: skip
"""Points of a worker's Program: its actions, in their own text form."""
WORKER_POINTS = ("vote", "stand", "adopt", "meet", "move", "redo", "validate", "save")
"""Named points of a worker beside its Program: the vote for each peer, what it answers when it is
fenced, its new orders, the meeting in a new group, each transfer of state, the remainder of a step,
validation, and its part of a checkpoint."""
CONTROLLER_POINTS = ("notice", "fence", "decide", "order", "record", "checkpoint", "restart")
"""Named points of the controller: it notices a failure, fences, decides, gives orders, writes
down a committed step, completes a checkpoint, takes up a run again."""
BESIDE_STEPS = frozenset({"save", "checkpoint"})
"""Points that come some time behind the step they belong to: the first one at or behind the step
is meant."""
ON_CONTROLLER = frozenset({FaultKind.CRASH, FaultKind.STOP, FaultKind.SLOW, FaultKind.GIL})
NEEDS_TIME = frozenset({FaultKind.SLOW, FaultKind.DISK_SLOW, FaultKind.NOTICE})
TAKES_TIME = NEEDS_TIME | {
    FaultKind.STOP, FaultKind.LOOP, FaultKind.GIL, FaultKind.PARTITION, FaultKind.STOP_RAYLET,
}  # fmt: skip
TAKES_TIMES = frozenset(
    {FaultKind.DISK_FULL, FaultKind.DISK_ERROR, FaultKind.DISK_SLOW, FaultKind.FLIP_RESULT}
)
EXAMPLE = "crash w1 at step 3 before B m2"


@dataclass(frozen=True, slots=True)
class Seat:
    """A place in the first plan instead of a worker's number; written ``stage1.pipeline0``."""

    stage: int
    pipeline: int

    def __str__(self) -> str:
        return f"stage{self.stage}.pipeline{self.pipeline}"


Target = int | Seat | str
"""A worker's number, its place in the plan, or :data:`CONTROLLER`."""


@dataclass(frozen=True, slots=True)
class Point:
    """A named point: ``step`` is the number of the step in the making, from 1.

    A worker that has committed ``n`` steps is in step ``n + 1``. ``what`` is an action in its text
    form, or a name of :data:`WORKER_POINTS` or :data:`CONTROLLER_POINTS` with words that tell more.
    """

    step: int
    moment: Moment
    what: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: what is done.
        target: to whom.
        step: in which step, counted from 1; in the first point at or behind it.
        moment: before or after ``what``.
        what: words of the point, the first of them its name: ``B m2``; empty for the first point.
        nth: at the how-manieth of such points, from 1.
        for_s: seconds that it lasts; None for ever.
        factor: how many times slower a slow process runs.
        times: how many writes a disk fault meets.
        other: the worker that a partition cuts off; None for everybody.

    Raises:
        FaultError: the parts do not go together.
    """

    kind: FaultKind
    target: Target
    step: int
    moment: Moment = Moment.BEFORE
    what: str = ""
    nth: int = 1
    for_s: float | None = None
    factor: float = 3.0
    times: int = 1
    other: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def matches(self, point: Point) -> bool:
        """Whether ``point`` is one of those that are meant, ``nth`` left out of account."""
        if point.step < self.step:
            return False
        if not self.what:
            return True
        wanted, words = self.what.split(), point.what.split()
        # The same point in a later step is another point.
        if point.step != self.step and wanted[0] not in BESIDE_STEPS:
            return False
        if point.moment is not self.moment:
            return False
        return wanted[0] == words[0] and _in_order(wanted[1:], words[1:])

    def on(self, plan: Plan) -> Fault:
        """The fault with a worker's number for its target, where ``plan`` is the first plan.

        Raises:
            FaultError: the plan has no such pipeline or stage.
        """
        if not isinstance(self.target, Seat):
            return self
        seat, pipelines = self.target, plan.pipelines
        if seat.pipeline >= len(pipelines):
            raise FaultError(f"'{self}': the plan has pipelines 0 to {len(pipelines) - 1}")
        stages = pipelines[seat.pipeline].stages
        if seat.stage >= len(stages):
            raise FaultError(f"'{self}': that pipeline has stages 0 to {len(stages) - 1}")
        return replace(self, target=stages[seat.stage].worker)

    def __str__(self) -> str:
        target = f"w{self.target}" if isinstance(self.target, int) else str(self.target)
        parts = [f"{self.kind.value} {target} at step {self.step}"]
        if self.what:
            parts.append(f"{self.moment.value} {self.what}")
        parts += [f"nth {self.nth}"] if self.nth != 1 else []
        parts += [f"for {self.for_s!r}s"] if self.for_s is not None else []
        parts += [f"factor {self.factor!r}"] if self.kind is FaultKind.SLOW else []
        parts += [f"times {self.times}"] if self.kind in TAKES_TIMES else []
        parts += [f"from w{self.other}"] if self.other is not None else []
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that ``str`` wrote, or somebody by hand.

        Raises:
            FaultError: with what was given, what is valid, and an example.
        """
        words = text.split()
        if len(words) < 5 or words[2:4] != ["at", "step"]:
            raise FaultError(f"a fault is written like '{EXAMPLE}'; got {text[:120]!r}")
        kind = _kind(words[0])
        settings, point = _settings(words[5:])
        moment, what = Moment.BEFORE, ""
        if point:
            moment = Moment(
                _one_of(point[0], [each.value for each in Moment], "the point begins with")
            )
            what = " ".join(point[1:])
            if not what:
                raise FaultError(f"'{point[0]}' is followed by a point, as in '{EXAMPLE}'")
        step = _whole(words[4], "the step")
        try:
            return cls(kind, _target(words[1]), step, moment, what, **settings)
        except TypeError as error:
            raise FaultError(f"{text[:120]!r}: {error}") from error


def _settings(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings behind the point, and the words of the point before them."""
    found: dict[str, Any] = {}
    place = next((i for i, word in enumerate(words) if word in _READ), len(words))
    point, rest = words[:place], words[place:]
    if len(rest) % 2:
        raise FaultError(
            f"'{rest[-1]}' has no value, or a value no name; names: {', '.join(_READ)}"
        )
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        key, read = _READ[_one_of(name, list(_READ), "a setting is")]
        if key in found:
            raise FaultError(f"'{name}' is given twice")
        found[key] = read(value, f"'{name}'")
    return found, point


def _check(fault: Fault) -> None:
    kind = fault.kind.value
    if fault.step < 1:
        raise FaultError(f"steps are counted from 1, not {fault.step}")
    if fault.target == CONTROLLER and fault.kind not in ON_CONTROLLER:
        can = ", ".join(sorted(each.value for each in ON_CONTROLLER))
        raise FaultError(f"the controller can be met by {can}, not by {kind}")
    if isinstance(fault.target, str) and fault.target != CONTROLLER:
        raise FaultError(f"a target is wN, stageS.pipelineP or {CONTROLLER}, not {fault.target!r}")
    if fault.what:
        points = CONTROLLER_POINTS if fault.target == CONTROLLER else (*ACTIONS, *WORKER_POINTS)
        _one_of(fault.what.split()[0], points, "the point is")
    if fault.for_s is not None and fault.kind not in TAKES_TIME:
        raise FaultError(f"'{kind}' does not last: leave out 'for'")
    if fault.for_s is None and fault.kind in NEEDS_TIME:
        raise FaultError(f"'{kind}' needs its duration, such as 'for 5s'")
    if fault.for_s is not None and not 0.0 < fault.for_s <= 86400.0:
        raise FaultError(f"a fault lasts more than 0 s and at most a day, not {fault.for_s:g} s")
    if not 1.0 < fault.factor <= 1000.0:
        raise FaultError(f"a slow process is more than 1 and at most 1000 times slower, not "
                         f"{fault.factor:g}")  # fmt: skip
    if fault.other is not None and fault.kind is not FaultKind.PARTITION:
        raise FaultError(f"'from' names whom a partition cuts off; '{kind}' has none")
    if fault.other is not None and fault.other == fault.target:
        raise FaultError(f"worker {fault.other} cannot be cut off from itself")
    if fault.nth < 1 or fault.times < 1:
        raise FaultError("'nth' and 'times' count from 1")


def _kind(word: str) -> FaultKind:
    return FaultKind(_one_of(word, [kind.value for kind in FaultKind], "a fault is"))


def _target(word: str) -> Target:
    if word == CONTROLLER:
        return CONTROLLER
    if word[:1] == "w" and word[1:].isdecimal():
        return int(word[1:])
    seat = re.fullmatch(r"stage(\d+)\.pipeline(\d+)", word, re.ASCII)
    if seat is None:
        raise FaultError(f"a target is wN, stageS.pipelineP or {CONTROLLER}, not {word[:60]!r}")
    return Seat(int(seat[1]), int(seat[2]))


def _one_of(word: str, known: list[str] | tuple[str, ...], what: str) -> str:
    if word in known:
        return word
    lower = {each.lower(): each for each in known}
    close = get_close_matches(word.lower(), lower, n=1)
    meant = f"; did you mean '{lower[close[0]]}'?" if close else ""
    raise FaultError(f"{what} one of {', '.join(known)}, not {word[:60]!r}{meant}")


def _whole(text: str, what: str) -> int:
    if not text.isdecimal():
        raise FaultError(f"{what} is a whole number, not {text[:60]!r}")
    return int(text)


def _worker(text: str, what: str) -> int:
    if text[:1] != "w" or not text[1:].isdecimal():
        raise FaultError(f"{what} is followed by a worker such as w1, not {text[:60]!r}")
    return int(text[1:])


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FaultError(f"{what} is a number, not {text[:60]!r}") from None


def _seconds(text: str, what: str) -> float:
    found = re.fullmatch(r"([0-9.]+(?:[eE][-+]?\d+)?)(ms|s|min)", text, re.ASCII)
    if found is None:
        raise FaultError(f"{what} is a duration such as 500ms, 6s or 2min, not {text[:60]!r}")
    return _number(found[1], what) * {"ms": 1e-3, "s": 1.0, "min": 60.0}[found[2]]


_READ = {
    "nth": ("nth", _whole),
    "for": ("for_s", _seconds),
    "factor": ("factor", _number),
    "times": ("times", _whole),
    "from": ("other", _worker),
}

Word = TypeVar("Word")


def _in_order(wanted: list[Word], words: list[Word]) -> bool:
    """Whether ``words`` has all of ``wanted``, in their order, perhaps with others between."""
    left = iter(words)
    return all(word in left for word in wanted)
