"""What is known about a failure: its class, whom it hit, where it was, and the evidence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum


class FailureClass(Enum):
    """The classes of failure; the value is the word in events, drills and text forms.

    ``crash``: the process is gone. ``hang``: it lives and does nothing (stopped, stuck, holds the
    interpreter). ``slow``: it works, but late against its own history. ``partition``: it works,
    but cannot be reached. ``corruption``: bytes are not what they were. ``controller``: the
    coordinator is gone. ``node``: a machine is gone, with all its workers. ``head``: the machine
    of the coordinator's cluster is gone. ``disk``: full or slow. ``zombie``: one that was given up
    comes back. ``notice``: a worker that will be taken away at a known time.
    """

    CRASH = "crash"
    HANG = "hang"
    SLOW = "slow"
    PARTITION = "partition"
    CORRUPTION = "corruption"
    CONTROLLER = "controller"
    NODE = "node"
    HEAD = "head"
    DISK = "disk"
    ZOMBIE = "zombie"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, as first seen.

    Attributes:
        kind: its class.
        worker: whom it hit; None for the controller and the head.
        node: name of the worker's machine; empty if not known.
        rank: of the worker in the generation it failed in.
        generation: in which it was seen.
        step: that was under way.
        action: text of the action that the worker was in; empty if not known.
        evidence: how it was noticed, in words.
        seen_s: when it was noticed, seconds on the run's clock.
        since_s: since when the worker had shown no progress, on the same clock.
        ends_s: for a notice, when the worker will be gone; None if not said.
        traceback: of the real error in the worker, if there was one.
        trusted: committed steps in the newest state that is known to be good, if what came after
            it may be wrong wherever it is held; None if what survivors hold is good.
    """

    kind: FailureClass
    worker: int | None = None
    node: str = ""
    rank: int | None = None
    generation: int = 0
    step: int = 0
    action: str = ""
    evidence: str = ""
    seen_s: float = 0.0
    since_s: float = 0.0
    ends_s: float | None = None
    traceback: str = ""
    trusted: int | None = None

    @property
    def identity(self) -> tuple[FailureClass, int, str]:
        """What makes two failures *the same failure again*: class, step and action.

        Not the worker: a fault that the data or the code brings about follows the micro-batch to
        whoever computes it next.
        """
        return self.kind, self.step, self.action

    def __str__(self) -> str:
        """One line of JSON that :meth:`parse` reads back."""
        return json.dumps({**asdict(self), "kind": self.kind.value})

    @classmethod
    def parse(cls, text: str) -> Failure:
        """The failure that ``str`` wrote; ``ValueError`` if the text is none."""
        try:
            data = json.loads(text)
            return cls(**{**data, "kind": FailureClass(data["kind"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a failure: {error}") from error
