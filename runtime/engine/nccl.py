"""The channel between GPUs: torch's NCCL process group behind the same interface.

Not measured: it has run on no machine yet. NCCL matches messages by order and not by tag, so it
leans on what every set of valid Programs gives: between two workers, sends and receives stand in
the same order. Small CPU tensors (headers, ballots) take the gloo channel beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from ithaca.runtime.engine.channel import channel_errors
from ithaca.runtime.engine.gloo import GlooChannel, Receiving
from ithaca.runtime.engine.steps import Pending
from ithaca.runtime.engine.wake import Graveyard


class NcclChannel:
    """Tensors on the GPU over NCCL, everything else over gloo."""

    def __init__(
        self,
        store: Store,
        generation: int,
        worker: int,
        workers: Sequence[int],
        timeout_s: float,
        hostname: str,
        device: torch.device,
        *,
        connect_s: float | None = None,
        checked: bool = False,
        outgoing: Callable[[Tensor], Tensor] = lambda content: content,
    ) -> None:
        self.worker = worker
        self.workers = tuple(workers)
        self._gloo = GlooChannel(
            store,
            generation,
            worker,
            workers,
            timeout_s,
            hostname,
            connect_s=connect_s,
            checked=checked,
            outgoing=outgoing,
        )
        self._store = PrefixStore(f"nccl-{generation}", store)
        self._timeout = timedelta(seconds=timeout_s)
        self._device = device
        self._groups: dict[tuple[int, ...], Any] = {}
        self._sends: list[tuple[Any, Tensor]] = []

    def _group(self, workers: tuple[int, ...]) -> Any:  # noqa: ANN401 - torch's group
        if workers not in self._groups:
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = self._timeout
            store = PrefixStore("+".join(map(str, workers)), self._store)
            rank = workers.index(self.worker)
            group = dist.ProcessGroupNCCL(store, rank, len(workers), options)
            self._groups[workers] = group
        return self._groups[workers]

    def send(self, peer: int, tag: int, content: Tensor) -> None:
        """Start to send; the stream's order is the message's order."""
        if not content.is_cuda:
            self._gloo.send(peer, tag, content)
            return
        with channel_errors():
            group = self._group(self.workers)
            work = group.send([content], self.workers.index(peer), 0)
        self._sends.append((work, content))

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Pending:
        """Post a receive."""
        if not buffer.is_cuda:
            return self._gloo.receive(peer, tag, buffer)
        with channel_errors():
            group = self._group(self.workers)
            return Receiving(group.recv([buffer], self.workers.index(peer), 0), buffer)

    def settle(self) -> None:
        """Wait for the sends of this step."""
        self._gloo.settle()
        with channel_errors():
            for work, _ in self._sends:
                work.wait()
        self._sends.clear()

    def all_reduce(self, workers: tuple[int, ...], content: Tensor) -> Pending:
        """Sum over ``workers`` in NCCL's own order."""
        with channel_errors():
            return Receiving(self._group(workers).allreduce([content]), content)

    def wake(self) -> None:
        """Fail every wait on this channel, running and to come; from any thread."""
        self._gloo.wake()
        for group in list(self._groups.values()):
            group.abort()

    def abandon(self, graveyard: Graveyard) -> None:
        """Leave the connections to ``graveyard``, with whatever may still be on its way."""
        self._gloo.abandon(graveyard)
        graveyard.bury(dict(self._groups), list(self._sends))
        self._sends.clear()
