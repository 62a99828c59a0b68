"""The channel between processes: torch's gloo process group, one world group per generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from ithaca.runtime.engine.channel import CorruptMessage, channel_errors
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.steps import Pending
from ithaca.runtime.engine.wake import Graveyard, wake

CHECKS = 2**30
"""Added to a message's tag for the message with its checksum."""


@dataclass(slots=True)
class Receiving:
    """A posted receive, or a running collective."""

    work: Any
    content: Tensor
    sum_work: Any = None
    sum_content: Tensor | None = None

    def wait(self) -> Tensor:
        """Block, without the GIL, until the content is there, and check it.

        Raises:
            CorruptMessage: it is not what was sent.
        """
        with channel_errors():
            self.work.wait()
            if self.sum_content is not None:
                self.sum_work.wait()
                if not torch.equal(checksum(self.content), self.sum_content):
                    raise CorruptMessage("a message has another checksum than it was sent with")
        return self.content


def checksum(content: Tensor) -> Tensor:
    """The 128-bit hash of a tensor's bytes, as two int64."""
    value = hash_tensor(content.cpu())
    words = [value & (2**63 - 1), value >> 65]
    return torch.tensor(words)


class GlooChannel:
    """Point-to-point messages over gloo.

    Every key in the store and so every connection carries the generation: a worker of another
    generation finds nobody to talk to.

    Args:
        store: of this or an earlier generation.
        generation: that begins.
        worker: this one.
        workers: all of them, by rank.
        timeout_s: bound of a wait; the backstop behind all that ends one earlier.
        hostname: address of this worker.
        connect_s: bound for the others to come; by default ``timeout_s``.
        checked: every message is followed by its checksum, which the receiver compares.
        outgoing: what is really sent for a tensor; a drill may damage it.

    Raises:
        ChannelError: somebody did not come.
    """

    def __init__(
        self,
        store: Store,
        generation: int,
        worker: int,
        workers: Sequence[int],
        timeout_s: float,
        hostname: str,
        *,
        connect_s: float | None = None,
        checked: bool = False,
        outgoing: Callable[[Tensor], Tensor] = lambda content: content,
    ) -> None:
        self.worker = worker
        self.workers = tuple(workers)
        self._store = PrefixStore(f"generation-{generation}", store)
        self._connect = timedelta(seconds=timeout_s if connect_s is None else connect_s)
        self._timeout = timedelta(seconds=timeout_s)
        self._outgoing = outgoing
        self._checked = checked
        self._hostname = hostname
        with channel_errors():
            self._group = self._make("world", self.workers)
        self._groups: dict[tuple[int, ...], Any] = {}
        self._sends: list[tuple[Any, Tensor]] = []

    def _make(self, name: str, workers: tuple[int, ...]) -> Any:  # noqa: ANN401 - torch's group
        options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._timeout = self._connect
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=self._hostname)]
        store = PrefixStore(name, self._store)
        group = dist.ProcessGroupGloo(store, workers.index(self.worker), len(workers), options)
        group._set_default_timeout(self._timeout)
        return group

    def send(self, peer: int, tag: int, content: Tensor) -> None:
        """Start to send; gloo completes it when the receive is posted."""
        with channel_errors():
            rank = self.workers.index(peer)
            if self._checked:
                check = checksum(content)
                self._sends.append((self._group.send([check], rank, CHECKS + tag), check))
            content = self._outgoing(content)
            work = self._group.send([content], rank, tag)
        self._sends.append((work, content))

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Post a receive."""
        with channel_errors():
            rank = self.workers.index(peer)
            work = self._group.recv([buffer], rank, tag)
            if not self._checked:
                return Receiving(work, buffer)
            check = torch.empty(2, dtype=torch.int64)
            return Receiving(work, buffer, self._group.recv([check], rank, CHECKS + tag), check)

    def settle(self) -> None:
        """Wait for the sends of this step."""
        with channel_errors():
            for work, _ in self._sends:
                work.wait()
        self._sends.clear()

    def all_reduce(self, workers: tuple[int, ...], content: Tensor) -> Pending:
        """Sum over ``workers`` in gloo's own order; their group is made at the first call."""
        with channel_errors():
            if workers not in self._groups:
                name = "+".join(map(str, workers))
                self._groups[workers] = self._make(name, workers)
            return Receiving(self._groups[workers].allreduce([content]), content)

    def wake(self) -> None:
        """Fail every wait on this channel, running and to come; from any thread."""
        for workers, group in [(self.workers, self._group), *list(self._groups.items())]:
            wake(group, workers.index(self.worker), len(workers))

    def close(self) -> None:
        """Drop the connections; nothing may be on its way."""
        self._groups.clear()
        self._sends.clear()
        self._group = None

    def abandon(self, graveyard: Graveyard) -> None:
        """Leave the connections to ``graveyard``, with whatever may still be on its way."""
        graveyard.bury(self._group, dict(self._groups), list(self._sends))
        self._sends.clear()
