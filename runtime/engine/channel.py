"""What the engine sends and receives through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ithaca.runtime.engine.steps import Pending

if TYPE_CHECKING:
    from torch import Tensor


class ChannelError(RuntimeError):
    """A message could not be sent, posted or received: the peer is gone, or time is up."""


class AbsentWorkers(ChannelError):
    """Some workers did not come to the meeting of their generation.

    Attributes:
        workers: that are missing.
    """

    def __init__(self, reason: str, workers: frozenset[int]) -> None:
        super().__init__(reason)
        self.workers = workers


class CorruptMessage(ChannelError):
    """A message came, but not as it was sent; or what two workers tell contradicts itself.

    Nobody is to blame for certain, and what was computed before stays good: it is sent again.
    """


class CorruptState(RuntimeError):
    """Memory of this worker has changed by itself: nothing that it computed in the step counts."""


@contextmanager
def channel_errors() -> Iterator[None]:
    """Turn what a communication library raises into :class:`ChannelError`.

    So a broken connection is told from an error in a layer, wherever in a step it shows.
    """
    try:
        yield
    except ChannelError:
        raise
    except RuntimeError as error:
        raise ChannelError(str(error)) from error


class Channel(Protocol):
    """Point-to-point messages between the workers of one generation.

    A message is matched by (sender, receiver, tag); two messages with the same tag between the
    same two workers arrive in the order in which they were sent. A send completes only when it is
    received, so nothing waits for one before the commit. A channel belongs to one generation:
    no message of another generation can be received through it.
    """

    worker: int
    workers: tuple[int, ...]

    def send(self, peer: int, tag: int, content: Tensor) -> None:
        """Start to send; ``content`` must not change before :meth:`settle`."""

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Post a receive into ``buffer``, a contiguous tensor of the sender's size and type."""

    def settle(self) -> None:
        """Wait for all sends that were started; called when the commit says they were received."""

    def all_reduce(self, workers: tuple[int, ...], content: Tensor) -> Pending:
        """Sum ``content`` over ``workers``, in place and in the library's order."""
