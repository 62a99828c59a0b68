"""The protocol between the engine and whatever drives it.

Everything in the engine that can wait is a generator. It yields :class:`Before` and :class:`After`
at the named points of the protocol, and a :class:`Pending` where it needs a message; the driver
sends the message's content back in. So the same engine runs on real processes (the driver blocks)
and in one thread on a virtual clock (the driver switches to another worker), where every named
point can be delayed, reordered or made to fail, and replayed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ithaca.planner.program import Action
from ithaca.recovery.strategy import Move

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Vote:
    """This worker's ballot for ``peer``; a point inside COMMIT."""

    peer: int

    def __str__(self) -> str:
        return f"vote w{self.peer}"


Point = Action | Move | Vote
"""A named point of the protocol."""


class Pending(Protocol):
    """A message that may not have arrived yet."""

    def wait(self) -> Any:  # noqa: ANN401 - a tensor, or a symbol in a simulation
        """Block until it has arrived; its content. Raises what the channel raises."""


@dataclass(frozen=True, slots=True)
class Before:
    """The worker is about to start ``action``."""

    action: Point


@dataclass(frozen=True, slots=True)
class After:
    """The worker has done its part of ``action``."""

    action: Point


Request = Before | After | Pending
Steps = Generator[Request, Any, T]
"""A computation that yields requests and ends with a ``T``."""
