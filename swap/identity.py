"""How a saved tensor and a place in a step are named, so that the next step finds them again.

Never by a pointer: by the segment that the tensor was saved in, its ordinal there, and what it
looks like. Ordinals start again at every segment, so that a module that did not run this time (an
expert without tokens, a dropped layer) shifts no name outside of itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a segment does; the value is its letter in the text form."""

    FORWARD = "F"
    BACKWARD = "B"
    OPTIMIZER = "O"


_SEGMENT = re.compile(r"([FBO])@(\S*)/m(\d+)\.(\d+)")
_IDENTITY = re.compile(r"(\S+)#(\d+)~(\d+):(\w+):r(\d+):b(\d+)")
_AT = re.compile(r"(\S+)\+(\d+)")


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """One run of a module's operators; written ``F@blocks.0/m2.0``.

    Args:
        phase: forward, backward or optimizer.
        module: the module's qualified name, without white space; empty for the root.
        slot: micro-batch slot of the step, 0-based.
        visit: how often the same (phase, module, slot) ran before in this step.
    """

    phase: Phase
    module: str
    slot: int = 0
    visit: int = 0

    def __str__(self) -> str:
        return f"{self.phase.value}@{self.module}/m{self.slot}.{self.visit}"

    @classmethod
    def parse(cls, text: str) -> SegmentKey:
        """The key that ``str`` wrote; ``ValueError`` if the text is none."""
        found = _SEGMENT.fullmatch(text)
        if not found:
            raise ValueError(f"a segment is written F@module/m0.0, not {text!r}")
        phase, module, slot, visit = found.groups()
        return cls(Phase(phase), module, int(slot), int(visit))


@dataclass(frozen=True, slots=True)
class Identity:
    """A saved tensor; written ``F@blocks.0/m0.0#12~3:float32:r3:b20``.

    Args:
        segment: where it was saved.
        ordinal: how many tensors were saved in that segment before it.
        alias: ordinal of the first save, in the same segment, of the storage that it shares;
            its own ordinal if it is the first.
        dtype: torch's name without ``torch.``: ``float32``.
        rank: number of dimensions.
        bucket: floor of log2 of the storage's bytes; 0 for an empty one.
    """

    segment: SegmentKey
    ordinal: int
    alias: int
    dtype: str
    rank: int
    bucket: int

    def __str__(self) -> str:
        look = f"{self.dtype}:r{self.rank}:b{self.bucket}"
        return f"{self.segment}#{self.ordinal}~{self.alias}:{look}"

    @classmethod
    def parse(cls, text: str) -> Identity:
        """The identity that ``str`` wrote; ``ValueError`` if the text is none."""
        found = _IDENTITY.fullmatch(text)
        if not found:
            raise ValueError(f"a saved tensor is written SEGMENT#N~N:dtype:rN:bN, not {text!r}")
        segment, ordinal, alias, dtype, rank, bucket = found.groups()
        key = SegmentKey.parse(segment)
        return cls(key, int(ordinal), int(alias), dtype, int(rank), int(bucket))


def size_bucket(nbytes: int) -> int:
    """The ``bucket`` of an :class:`Identity` for a storage of ``nbytes``."""
    return max(0, nbytes.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class At:
    """Just before point ``offset`` of a segment; written ``B@blocks.0/m0.0+7``.

    ``offset`` may be the segment's length: behind its last point.
    """

    segment: SegmentKey
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}+{self.offset}"

    @classmethod
    def parse(cls, text: str) -> At:
        """The place that ``str`` wrote; ``ValueError`` if the text is none."""
        found = _AT.fullmatch(text)
        if not found:
            raise ValueError(f"a place is written SEGMENT+N, not {text!r}")
        return cls(SegmentKey.parse(found.group(1)), int(found.group(2)))
