"""Half-open ranges of layers and sets of micro-batches, and the text they are written as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Layers ``first`` (included) to ``last`` (excluded); written ``first:last``.

    Raises:
        ValueError: the range is empty or starts below zero.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(f"a span of layers is first:last with 0 <= first < last, not {self}")

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __reversed__(self) -> Iterator[int]:
        return iter(range(self.last - 1, self.first - 1, -1))

    def __len__(self) -> int:
        return self.last - self.first

    def __contains__(self, layer: object) -> bool:
        return isinstance(layer, int) and self.first <= layer < self.last

    @classmethod
    def parse(cls, text: str) -> Span:
        """The span that ``str`` wrote; ``ValueError`` if the text is no span."""
        first, colon, last = text.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal()):
            raise ValueError(f"a span of layers is written first:last, not {text!r}")
        return cls(int(first), int(last))


def format_ids(ids: Iterable[int]) -> str:
    """Sorted micro-batch ids as ``0-3,6``; ``-`` when there are none."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "-"


def parse_ids(text: str) -> tuple[int, ...]:
    """The sorted ids that :func:`format_ids` wrote; ``ValueError`` if the text is no such list."""
    if text == "-":
        return ()
    ids: list[int] = []
    for run in text.split(","):
        low, dash, high = run.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"micro-batches are written like 0-3,6 and not {text!r}")
        ids.extend(range(int(low), int(high if dash else low) + 1))
    if ids != sorted(set(ids)):
        raise ValueError(f"micro-batches are written once each and in order, not {text!r}")
    return tuple(ids)
