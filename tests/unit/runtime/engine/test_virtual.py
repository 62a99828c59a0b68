"""The in-memory channel: matching, delays, deadlocks, collectives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ithaca.planner.program import Commit
from ithaca.runtime.engine.steps import After, Before, Steps
from ithaca.runtime.engine.virtual import Address, Deadlock, VirtualChannel, VirtualCluster

Engine = Callable[[VirtualChannel], Steps[list[float]]]


def run(
    engines: list[Engine], delay: Callable[[Address], float] = lambda _: 0.0
) -> tuple[dict[int, list[float]], VirtualCluster]:
    """Run one engine per worker 0, 1, ...; results and the cluster."""
    cluster = VirtualCluster(range(len(engines)), delay)
    steps = {w: engine(cluster.channel(w)) for w, engine in enumerate(engines)}
    return cluster.run(steps), cluster


def sender(*messages: tuple[int, float]) -> Engine:
    """Sends (tag, number) to worker 1, in order."""

    def engine(channel: VirtualChannel) -> Steps[list[float]]:
        for tag, number in messages:
            channel.send(1, tag, torch.tensor([number]))
        yield After(Commit())
        return []

    return engine


def receiver(*tags: int) -> Engine:
    """Receives ``tags`` from worker 0: posts all, then waits in order."""

    def engine(channel: VirtualChannel) -> Steps[list[float]]:
        posted = [channel.receive(0, tag, torch.empty(1)) for tag in tags]
        found = []
        for message in posted:
            content: Tensor = yield message
            found.append(content.item())
        return found

    return engine


def test_messages_are_matched_by_tag_and_then_by_order() -> None:
    results, _ = run([sender((7, 1.0), (3, 2.0), (7, 3.0)), receiver(3, 7, 7)])
    assert results[1] == [2.0, 1.0, 3.0]


def test_delays_change_the_clock_and_not_the_content() -> None:
    results, cluster = run(
        [sender((1, 1.0), (2, 2.0)), receiver(2, 1)], lambda address: float(address[2])
    )
    assert results[1] == [2.0, 1.0]
    assert cluster.now == 2.0


def test_costs_decide_who_goes_first() -> None:
    order: list[int] = []

    def engine(channel: VirtualChannel) -> Steps[None]:
        yield Before(Commit())
        order.append(channel.worker)

    cluster = VirtualCluster([0, 1, 2], cost=lambda worker, _: float(3 - worker))
    cluster.run({worker: engine(cluster.channel(worker)) for worker in cluster.workers})
    assert order == [2, 1, 0]
    assert cluster.now == 3.0


def test_a_deadlock_names_who_is_stuck_where() -> None:
    def waits(channel: VirtualChannel) -> Steps[list[float]]:
        yield Before(Commit())
        yield channel.receive(1 - channel.worker, 5, torch.empty(1))
        return []

    with pytest.raises(Deadlock, match=r"wait for each other: \{0: 'COMMIT', 1: 'COMMIT'\}"):
        run([waits, waits])


def test_a_send_that_nobody_received_is_noticed() -> None:
    def careless(channel: VirtualChannel) -> Steps[list[float]]:
        channel.send(1, 9, torch.zeros(1))
        yield After(Commit())
        channel.settle()
        return []

    with pytest.raises(Deadlock, match=r"nobody received the message \(0, 1, 9\)"):
        run([careless, receiver()])


@pytest.mark.parametrize("wrong", [torch.zeros(2), torch.zeros(1, dtype=torch.float64)])
def test_buffers_must_fit(wrong: Tensor) -> None:
    def engine(channel: VirtualChannel) -> Steps[list[float]]:
        yield channel.receive(0, 1, wrong)
        return []

    with pytest.raises(ValueError, match=r"message \(0, 1, 1\): sent torch.float32 \(1,\)"):
        run([sender((1, 1.0)), engine])


def test_contents_are_copied_late() -> None:
    """An engine that changes what it is still sending is found out."""

    def hasty(channel: VirtualChannel) -> Steps[list[float]]:
        content = torch.tensor([1.0])
        channel.send(1, 1, content)
        content.fill_(99.0)
        yield After(Commit())
        return []

    assert run([hasty, receiver(1)])[0][1] == [99.0]


def test_a_collective_ends_when_everybody_came() -> None:
    def engine(channel: VirtualChannel) -> Steps[list[float]]:
        found = []
        for turn in (1.0, 10.0):
            total = torch.tensor([turn * (1 + channel.worker)])
            yield channel.all_reduce((0, 1, 2), total)
            found.append(total.item())
        return found

    assert set(map(tuple, run([engine] * 3)[0].values())) == {(6.0, 60.0)}
    with pytest.raises(Deadlock):
        run([engine, engine, receiver()])


def test_waiting_is_by_yielding_only() -> None:
    cluster = VirtualCluster([0, 1])
    channel = cluster.channel(0)
    with pytest.raises(RuntimeError, match="by yielding it"):
        channel.receive(1, 0, torch.empty(1)).wait()
    with pytest.raises(RuntimeError, match="by yielding it"):
        channel.all_reduce((0, 1), torch.empty(1)).wait()


def test_nothing_else_can_be_waited_for() -> None:
    class Foreign:
        def wait(self) -> None: ...

    def engine(channel: VirtualChannel) -> Steps[list[float]]:
        yield Foreign()
        return []

    with pytest.raises(TypeError, match="cannot wait for"):
        run([engine])
