"""What a worker may hold in memory, and where the rest may go."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, model_validator

from ithaca.runtime.config.section import BadValue, Section
from ithaca.runtime.config.units import Size, Unit, parse_size

_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


def parse_share(text: str) -> float | None:
    """0.4 of ``40%``; ``None`` if it is no percentage from above 0 to 100."""
    found = _SHARE.fullmatch(text)
    share = float(found[1]) / 100 if found else 0.0
    return share if 0 < share <= 1 else None


def _budget(text: str) -> str:
    if parse_share(text) is None:
        try:
            parse_size(text)
        except ValueError:
            raise ValueError(
                "a budget is a size like 8GiB, or a percentage of a step's activations from above "
                f"0% to 100%, like 40%; got {text[:60]!r}"
            ) from None
    return text


Budget = Annotated[
    str, Unit("a size such as 8GiB or a percentage such as 40%"), AfterValidator(_budget)
]
"""A size, or a percentage."""


class MemoryConfig(Section):
    """A budget of bytes for every worker; no bit of the result depends on it."""

    budget: Budget | None = None
    """What torch's allocator may hold in one worker, such as ``8GiB``. ``40%``: everything but
    the activations of a step as planned, and 40 % of these. Null: no budget."""
    folder: str | None = None
    """Where saved tensors and optimizer state may go, on every node; null: nowhere, and layers are
    computed again instead. The file in it has no name and is gone when the worker ends."""
    limit: Size | None = None
    """Bytes that one worker may fill in ``folder``."""
    recompute: bool = True
    """Whether layers may be computed again instead of being kept."""

    @model_validator(mode="after")
    def _goes_together(self) -> MemoryConfig:
        if self.folder is not None and self.budget is None:
            raise BadValue("memory.folder", "is for a memory.budget, and there is none")
        if self.folder is not None and self.limit is None:
            raise BadValue(
                "memory.limit", "is needed with memory.folder: the bytes that a worker may fill"
            )
        if self.limit is not None and self.folder is None:
            raise BadValue("memory.limit", "is for a memory.folder, and there is none")
        if not self.recompute and self.folder is None:
            raise BadValue(
                "memory.recompute",
                "false needs a memory.folder: without one nothing is left to do under a budget",
            )
        return self

    def bytes_for(self, fixed: int, movable: int) -> int | None:
        """The budget in bytes; None without one.

        Args:
            fixed: bytes that a step needs whatever is moved.
            movable: bytes of its activations at most.
        """
        if self.budget is None:
            return None
        share = parse_share(self.budget)
        return parse_size(self.budget) if share is None else fixed + round(share * movable)

    @property
    def limit_bytes(self) -> int | None:
        """The budget, if it is given in bytes."""
        return self.bytes_for(0, 0) if self.budget and parse_share(self.budget) is None else None
