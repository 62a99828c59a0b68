"""The gloo channel over real sockets; its ends are threads, so that no process must be started."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
import torch.distributed as dist

from ithaca.runtime.engine.channel import ChannelError
from ithaca.runtime.engine.gloo import GlooChannel

T = TypeVar("T")
WORKERS = (2, 5, 9)
TIMEOUT_S = 60.0


def together(act: Callable[[GlooChannel], T]) -> dict[int, T]:
    """What ``act`` returns at each end of a new channel, by worker."""
    store = dist.HashStore()

    def end(worker: int) -> T:
        channel = GlooChannel(store, 4, worker, WORKERS, TIMEOUT_S, "127.0.0.1")
        try:
            return act(channel)
        finally:
            channel.close()

    with ThreadPoolExecutor(len(WORKERS)) as pool:
        return dict(zip(WORKERS, pool.map(end, WORKERS), strict=True))


def test_messages_are_matched_by_tag_and_not_by_time() -> None:
    def act(channel: GlooChannel) -> list[float]:
        peers = [worker for worker in WORKERS if worker != channel.worker]
        posted = [
            channel.receive(peer, tag, torch.empty(2)) for tag in (7, 70_000) for peer in peers
        ]
        for tag in (70_000, 7):
            for peer in peers:
                channel.send(peer, tag, torch.tensor([channel.worker, tag], dtype=torch.float32))
        found = [value for pending in reversed(posted) for value in pending.wait().tolist()]
        channel.settle()
        return found

    for worker, found in together(act).items():
        low, high = (other for other in WORKERS if other != worker)
        assert found == [high, 70_000, low, 70_000, high, 7, low, 7]


def test_messages_of_one_tag_keep_their_order_and_parts_of_a_vector_arrive_in_place() -> None:
    def act(channel: GlooChannel) -> list[float]:
        vector = torch.zeros(6)
        if channel.worker == 2:
            for number in (1.0, 2.0):
                channel.send(5, 3, torch.full((4,), number)[1:3])
        if channel.worker == 5:
            for pending in [channel.receive(2, 3, part) for part in (vector[1:3], vector[4:6])]:
                pending.wait()
        channel.settle()
        return vector.tolist()

    assert together(act)[5] == [0, 1, 1, 0, 2, 2]


def test_sums_over_all_and_over_some() -> None:
    def act(channel: GlooChannel) -> list[float]:
        found = []
        for group in (WORKERS, WORKERS[1:], WORKERS):
            content = torch.tensor([float(channel.worker)])
            if channel.worker in group:
                channel.all_reduce(group, content).wait()
            found.append(content.item())
        return found

    assert together(act) == {2: [16, 2, 16], 5: [16, 14, 16], 9: [16, 14, 16]}


def test_a_peer_that_is_gone_is_a_channel_error() -> None:
    def act(channel: GlooChannel) -> str:
        if channel.worker == 9:
            return "gone"
        pending = channel.receive(9, 1, torch.empty(1))
        with pytest.raises(ChannelError) as caught:
            pending.wait()
        return str(caught.value)

    found = together(act)
    assert found[9] == "gone"
    assert all(found[worker] for worker in (2, 5))
