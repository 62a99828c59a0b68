"""Where the output of a rank goes: torchrun's --redirects, --tee and --local-ranks-filter.

Both streams of every rank are written to its log files. These rules say what the console shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag

_ONE = re.compile(r"[0-3]")
_EACH = re.compile(r"\d+:[0-3](,\d+:[0-3])*")


class Stream(Enum):
    """An output stream of a process; the value names its log file, ``<value>.log``."""

    OUT = "stdout"
    ERR = "stderr"


class Streams(IntFlag):
    """A set of streams as torchrun numbers them: 0 none, 1 stdout, 2 stderr, 3 both."""

    NONE = 0
    OUT = 1
    ERR = 2
    BOTH = 3

    def has(self, stream: Stream) -> bool:
        """Whether ``stream`` is in the set."""
        return bool(self & (Streams.OUT if stream is Stream.OUT else Streams.ERR))


class Shown(Enum):
    """How the console shows a stream: not at all, as it is, or with the rank before each line."""

    NO = "no"
    PLAIN = "plain"
    PREFIXED = "prefixed"


@dataclass(frozen=True, slots=True)
class StreamRule:
    """A set of streams for each local rank; ``each`` is None when all have the set ``common``."""

    common: Streams = Streams.NONE
    each: Mapping[int, Streams] | None = None

    @classmethod
    def parse(cls, text: str) -> StreamRule:
        """Reads ``3`` (for all local ranks) or ``0:1,1:2`` (the others none).

        Raises:
            ValueError: the text is neither.
        """
        if _ONE.fullmatch(text):
            return cls(Streams(int(text)))
        if _EACH.fullmatch(text):
            pairs = (part.split(":") for part in text.split(","))
            return cls(each={int(rank): Streams(int(value)) for rank, value in pairs})
        raise ValueError(
            f"{text!r} names no streams; give 0 (none), 1 (stdout), 2 (stderr) or 3 (both), "
            "or one of these for each local rank, as in 0:1,1:2"
        )

    def of(self, local_rank: int) -> Streams:
        """The streams of ``local_rank``."""
        return self.common if self.each is None else self.each.get(local_rank, Streams.NONE)

    def __bool__(self) -> bool:
        return any(self.each.values()) if self.each is not None else bool(self.common)


@dataclass(frozen=True, slots=True)
class Routing:
    """What the console shows of whom.

    Attributes:
        redirects: streams that only go to their log file.
        tee: streams that go to their log file and, line by line with a prefix, to the console.
        ranks: local ranks that the console shows; None for all.
        stdout_needles: lines of teed stdout with one of these are copied to filtered_stdout.log.
        stderr_needles: the same for stderr and filtered_stderr.log.
    """

    redirects: StreamRule = field(default_factory=StreamRule)
    tee: StreamRule = field(default_factory=StreamRule)
    ranks: frozenset[int] | None = None
    stdout_needles: tuple[str, ...] = ()
    stderr_needles: tuple[str, ...] = ()

    def shown(self, local_rank: int, stream: Stream) -> Shown:
        """How the console shows ``stream`` of ``local_rank``; tee wins over redirects."""
        if self.ranks is not None and local_rank not in self.ranks:
            return Shown.NO
        if self.tee.of(local_rank).has(stream):
            return Shown.PREFIXED
        return Shown.NO if self.redirects.of(local_rank).has(stream) else Shown.PLAIN

    def needles(self, stream: Stream) -> tuple[str, ...]:
        """What a teed line must contain to be copied to the filtered log of ``stream``."""
        return self.stdout_needles if stream is Stream.OUT else self.stderr_needles

    @property
    def keeps_logs(self) -> bool:
        """Whether the user asked for log files, by redirecting or teeing anything."""
        return bool(self.redirects) or bool(self.tee)
