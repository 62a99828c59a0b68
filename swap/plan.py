"""What is done with every saved tensor in a step, in a text form that parses back.

A plan holds no time: the executor follows it at places of the step, and waits where a copy is
late. So the bytes in memory at every point follow from the plan alone, however fast the links are;
only the step time is a prediction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ithaca.swap.identity import At, Identity, Phase


class Action(Enum):
    """What happens to a storage between its last use in the forward and its first in backward."""

    KEEP = "keep"
    SWAP = "swap"
    RECOMPUTE = "recompute"


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of a plan.

    A swapped storage is written out as soon as it is released; at ``free`` the write has to be
    finished and the bytes are given back (until then they count). At ``prefetch`` its bytes are
    allocated again and the read starts; the first use waits for it. A recomputed one is dropped
    at ``free``; ``replay`` brings it back at its first use. For optimizer state, ``free`` lies
    behind its use, and the next step begins without it.

    Args:
        identity: of the first tensor that was saved with the storage.
        nbytes: of the storage.
        action: keep, swap or recompute.
        reason: one or a few words, for the report.
        tier: where to, for a swap.
        replay: the name of the replay, for a recompute.
        free: where its bytes are free, for all but keep.
        prefetch: where its bytes are taken again, for a swap.
    """

    identity: Identity
    nbytes: int
    action: Action
    reason: str
    tier: str | None = None
    replay: str | None = None
    free: At | None = None
    prefetch: At | None = None

    def __post_init__(self) -> None:
        swap, recompute = self.action is Action.SWAP, self.action is Action.RECOMPUTE
        given = (self.tier, self.replay, self.free, self.prefetch)
        wanted = (swap, recompute, swap or recompute, swap)
        if tuple(part is not None for part in given) != wanted:
            raise ValueError(f"{self.identity}: {self.action.value} does not go with {given}")

    def __str__(self) -> str:
        words = [self.action.value, str(self.identity), str(self.nbytes)]
        parts = (("tier", self.tier), ("replay", self.replay))
        places = (("free", self.free), ("prefetch", self.prefetch))
        words += [f"{key}={part}" for key, part in (*parts, *places) if part is not None]
        return f"{' '.join(words)}  # {self.reason}"

    @classmethod
    def parse(cls, text: str) -> Decision:
        """The decision that ``str`` wrote; ``ValueError`` if the text is none."""
        line, _, reason = text.partition("  # ")
        words = line.split()
        if len(words) < 3:
            raise ValueError("a decision is written: ACTION IDENTITY BYTES key=value ...  # REASON")
        given = dict(word.partition("=")[::2] for word in words[3:])
        if unknown := set(given) - {"tier", "replay", "free", "prefetch"}:
            raise ValueError(f"unknown in a decision: {sorted(unknown)}")
        return cls(
            Identity.parse(words[1]),
            int(words[2]),
            Action(words[0]),
            reason,
            given.get("tier"),
            given.get("replay"),
            At.parse(given["free"]) if "free" in given else None,
            At.parse(given["prefetch"]) if "prefetch" in given else None,
        )


@dataclass(frozen=True)
class Plan:
    """The decisions for one sequence under one budget.

    Args:
        sequence: hash of the trace it was made for.
        budget_bytes: what the device's allocator may hold.
        peak_bytes: what it holds at most, by this plan.
        step_s: predicted seconds of a step, stalls and replays included.
        stall_s: of these, waiting for copies.
        recompute_s: of these, replays.
        decisions: one for each storage, in the trace's order.
    """

    sequence: str
    budget_bytes: int
    peak_bytes: int
    step_s: float
    stall_s: float
    recompute_s: float
    decisions: tuple[Decision, ...]

    @cached_property
    def by_identity(self) -> dict[Identity, Decision]:
        """The decision of each storage, by its first tensor."""
        return {decision.identity: decision for decision in self.decisions}

    @property
    def state_away(self) -> int | None:
        """Bytes of optimizer state that may be away; ``None`` if the plan says nothing of state."""
        lines = [d for d in self.decisions if d.identity.segment.phase is Phase.OPTIMIZER]
        return sum(d.nbytes for d in lines if d.action is not Action.KEEP) if lines else None

    def bytes_of(self, action: Action) -> int:
        """Bytes of all storages that meet with ``action``."""
        return sum(part.nbytes for part in self.decisions if part.action is action)

    def __str__(self) -> str:
        head = (
            f"plan sequence={self.sequence} budget={self.budget_bytes} peak={self.peak_bytes} "
            f"step={self.step_s!r} stall={self.stall_s!r} recompute={self.recompute_s!r}"
        )
        return "\n".join([head, *map(str, self.decisions)]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that ``str`` wrote; ``ValueError`` names the line that is wrong."""
        lines = [line for line in text.splitlines() if line.strip()]
        words = lines[0].split() if lines else []
        head = dict(word.partition("=")[::2] for word in words[1:])
        if words[:1] != ["plan"] or set(head) != _HEAD:
            raise ValueError(f"a plan starts with: plan and {sorted(_HEAD)}")
        return cls(
            sequence=head["sequence"],
            budget_bytes=int(head["budget"]),
            peak_bytes=int(head["peak"]),
            step_s=float(head["step"]),
            stall_s=float(head["stall"]),
            recompute_s=float(head["recompute"]),
            decisions=tuple(_decisions(lines[1:])),
        )


_HEAD = {"sequence", "budget", "peak", "step", "stall", "recompute"}


def _decisions(lines: Iterable[str]) -> Iterable[Decision]:
    for number, line in enumerate(lines, 2):
        try:
            yield Decision.parse(line)
        except ValueError as error:
            raise ValueError(f"line {number} of the plan, {line!r}: {error}") from error
