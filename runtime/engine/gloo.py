"""The channel between processes: torch's gloo process group, one world group per generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from ithaca.runtime.engine.channel import channel_errors
from ithaca.runtime.engine.steps import Pending
from ithaca.runtime.engine.wake import Graveyard, wake


@dataclass(slots=True)
class Receiving:
    """A posted receive, or a running collective."""

    work: Any
    content: Tensor

    def wait(self) -> Tensor:
        """Block, without the GIL, until the content is there."""
        with channel_errors():
            self.work.wait()
        return self.content


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
        outgoing: Callable[[Tensor], Tensor] = lambda content: content,
    ) -> None:
        self.worker = worker
        self.workers = tuple(workers)
        self._store = PrefixStore(f"generation-{generation}", store)
        self._connect = timedelta(seconds=timeout_s if connect_s is None else connect_s)
        self._timeout = timedelta(seconds=timeout_s)
        self._outgoing = outgoing
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
            content = self._outgoing(content)
            work = self._group.send([content], self.workers.index(peer), tag)
        self._sends.append((work, content))

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Post a receive."""
        with channel_errors():
            work = self._group.recv([buffer], self.workers.index(peer), tag)
        return Receiving(work, buffer)

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

    def abandon(self, graveyard: Graveyard) -> None:
        """Leave the connections to ``graveyard``, with whatever may still be on its way."""
        graveyard.bury(self._group, dict(self._groups), list(self._sends))
        self._sends.clear()
