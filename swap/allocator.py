"""torch's allocator of the CPU, counted: all bytes, their peak, and a cap during a session."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


def operators() -> Any:  # noqa: ANN401 - torch's operators have no types
    """``torch.ops.ithaca``, with our C++ loaded."""
    importlib.import_module("ithaca._C")
    return torch.ops.ithaca


@dataclass(frozen=True)
class Usage:
    """Bytes of torch's allocator.

    Args:
        allocated: now.
        peak: at most, since :func:`reset_peak` or the start of the session.
        cap: allowed; ``None`` outside of a session.
        exempt: now, by threads that do not count.
        largest: the largest single request of the session.
    """

    allocated: int
    peak: int
    cap: int | None
    exempt: int
    largest: int


def install() -> None:
    """Puts the counting allocator in front of torch's, for the rest of the process.

    What was allocated before is not counted; a session counts its model's share of that.
    """
    operators().memory_install()


def usage() -> Usage:
    """What is allocated, counted since :func:`install`."""
    numbers = operators().memory_bytes()
    cap = numbers["cap"]
    return Usage(
        numbers["allocated"],
        numbers["peak"],
        None if cap < 0 else cap,
        numbers["exempt"],
        numbers["largest"],
    )


def reset_peak() -> None:
    """Forgets the peak so far."""
    operators().memory_reset_peak()


@contextmanager
def exempt() -> Iterator[None]:
    """What this thread allocates inside is not counted against the budget.

    For threads that communicate, write checkpoints or stage copies.
    """
    operators().memory_exempt(True)
    try:
        yield
    finally:
        operators().memory_exempt(False)
