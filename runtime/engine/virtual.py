"""Workers in one thread on a virtual clock: the engine without processes.

Every worker is a generator. The cluster resumes the one whose time comes first, lets an action
take the time that ``cost`` says, and delivers a message ``delay`` seconds after both ends are
ready. With seeded functions for both, thousands of interleavings run in seconds, and each can be
replayed. Contents are copied as late as the channel's contract allows, so an engine that touches a
tensor it is still sending is found out.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from torch import Tensor

from ithaca.runtime.engine.channel import ChannelError
from ithaca.runtime.engine.steps import After, Before, Point, Request, Steps

T = TypeVar("T")
Address = tuple[int, int, int]
"""Sender, receiver, tag."""


class Verdict(Enum):
    """What becomes of a worker at a named point."""

    GO_ON = "go on"
    KILL = "kill"
    STOP = "stop"
    """Everybody stops here: the failure has been noticed."""


class Deadlock(RuntimeError):
    """Nobody can go on; the message says what each worker waits for."""


@dataclass(slots=True)
class Message:
    """One message: sent, received, or both so far."""

    address: Address
    content: Tensor | None = None
    buffer: Tensor | None = None
    sent_at: float = 0.0
    posted_at: float = 0.0
    arrives_at: float | None = None
    delivered: bool = False
    waiter: int | None = None

    def wait(self) -> Tensor:
        """Only the virtual cluster resumes whoever waits; there is nothing to block on."""
        raise RuntimeError("a virtual message is waited for by yielding it")

    def deliver(self) -> Tensor:
        """Copy the content, once."""
        assert self.content is not None
        assert self.buffer is not None
        if not self.delivered:
            self.buffer.copy_(self.content)
            self.delivered = True
        return self.buffer


@dataclass(slots=True)
class Meeting:
    """A collective: it ends when everybody has come."""

    workers: tuple[int, ...]
    contents: dict[int, Tensor] = field(default_factory=dict)
    waiters: set[int] = field(default_factory=set)

    def wait(self) -> Tensor:
        """Only the virtual cluster resumes whoever waits."""
        raise RuntimeError("a virtual collective is waited for by yielding it")


class VirtualChannel:
    """One worker's end of the virtual network."""

    def __init__(self, cluster: VirtualCluster, worker: int) -> None:
        self.worker = worker
        self.workers = cluster.workers
        self._cluster = cluster
        self._sends: list[Message] = []

    def send(self, peer: int, tag: int, content: Tensor) -> None:
        """Start to send."""
        self._sends.append(self._cluster.sent((self.worker, peer, tag), content))

    def receive(self, peer: int, tag: int, buffer: Tensor) -> Message:
        """Post a receive; ``ValueError`` later if the sender's tensor differs in size or type."""
        return self._cluster.posted((peer, self.worker, tag), buffer)

    def settle(self) -> None:
        """Check that every send was received by whoever lives; ``Deadlock`` names one that was not.

        Raises:
            ChannelError: a message is for a worker that was killed.
        """
        sends, self._sends = self._sends, []
        for message in sends:
            if message.buffer is None:
                if message.address[1] in self._cluster.dead:
                    raise ChannelError(f"worker {message.address[1]} is gone")
                raise Deadlock(f"nobody received the message {message.address}")
            message.deliver()

    def all_reduce(self, workers: tuple[int, ...], content: Tensor) -> Meeting:
        """Sum one after the other, in the order in which the workers came."""
        return self._cluster.met(workers, self.worker, content)


class VirtualCluster:
    """Runs one engine per worker on a shared virtual clock.

    Args:
        workers: ids.
        delay: seconds from both ends being ready to the arrival, for an address.
        cost: seconds that an action takes on a worker.
    """

    def __init__(
        self,
        workers: Sequence[int],
        delay: Callable[[Address], float] = lambda _: 0.0,
        cost: Callable[[int, Point], float] = lambda *_: 0.0,
    ) -> None:
        self.workers = tuple(workers)
        self._delay = delay
        self._cost = cost
        self._now = 0.0
        self._turn = 0
        self._ready: list[tuple[float, int, int, Tensor | None]] = []
        self._unmatched: dict[Address, deque[Message]] = defaultdict(deque)
        self._meetings: dict[tuple[int, ...], Meeting] = {}
        self._doing: dict[int, str] = {}
        self.dead: set[int] = set()

    def channel(self, worker: int) -> VirtualChannel:
        """The end of ``worker``."""
        return VirtualChannel(self, worker)

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def run(self, engines: Mapping[int, Steps[T]]) -> dict[int, T]:
        """Run all engines to their end; their results by worker.

        Raises:
            Deadlock: engines are left that nothing can wake.
        """
        results, _ = self.play(engines)
        if len(results) < len(engines):
            stuck = {w: self._doing.get(w, "start") for w in engines if w not in results}
            raise Deadlock(f"workers wait for each other: {stuck}")
        return results

    def play(
        self,
        engines: Mapping[int, Steps[T]],
        watch: Callable[[int, Request], Verdict] = lambda *_: Verdict.GO_ON,
    ) -> tuple[dict[int, T], dict[int, Request]]:
        """Run engines until they end, or nothing goes on, or ``watch`` wants it.

        Args:
            engines: by worker.
            watch: told every request before it is served. A worker that it kills is closed there,
                and what it sent and nobody has received yet is lost.

        Returns:
            The results of those that ended, and the last request of those that neither ended nor
            were killed.
        """
        results: dict[int, T] = {}
        last: dict[int, Request] = {}
        for worker in engines:
            self._resume(worker, self._now, None)
        while self._ready:
            self._now, _, worker, reply = heapq.heappop(self._ready)
            try:
                request = engines[worker].send(reply)
            except StopIteration as stop:
                results[worker] = stop.value
                last.pop(worker, None)
                continue
            verdict = watch(worker, request)
            if verdict is Verdict.KILL:
                engines[worker].close()
                last.pop(worker, None)
                self._lose(worker)
                continue
            last[worker] = request
            self._serve(worker, request)
            if verdict is Verdict.STOP:
                break
        return results, last

    def _serve(self, worker: int, request: Request) -> None:
        match request:
            case Before(action):
                self._doing[worker] = str(action)
                self._resume(worker, self._now + self._cost(worker, action), None)
            case After():
                self._resume(worker, self._now, None)
            case Message() | Meeting():
                self._await(worker, request)
            case _:
                raise TypeError(f"the virtual cluster cannot wait for {request!r}")

    def _lose(self, worker: int) -> None:
        """Forget what the dead ``worker`` has sent to nobody yet, and what it asked for."""
        self.dead.add(worker)
        for address in [a for a in self._unmatched if worker in a[:2]]:
            del self._unmatched[address]

    def sent(self, address: Address, content: Tensor) -> Message:
        """A worker started to send."""
        message = self._match(address, lambda m: m.content is None)
        message.content, message.sent_at = content, self._now
        self._start(message)
        return message

    def posted(self, address: Address, buffer: Tensor) -> Message:
        """A worker posted a receive."""
        message = self._match(address, lambda m: m.buffer is None)
        message.buffer, message.posted_at = buffer, self._now
        self._start(message)
        return message

    def met(self, workers: tuple[int, ...], worker: int, content: Tensor) -> Meeting:
        """A worker came to a collective."""
        meeting = self._meetings.setdefault(workers, Meeting(workers))
        meeting.contents[worker] = content
        if len(meeting.contents) == len(workers):
            del self._meetings[workers]
            first, *others = meeting.contents.values()
            total = first.clone()
            for other in others:
                total += other
            for target in meeting.contents.values():
                target.copy_(total)
            for waiter in meeting.waiters:
                self._resume(waiter, self._now, meeting.contents[waiter])
        return meeting

    def _match(self, address: Address, missing: Callable[[Message], bool]) -> Message:
        queue = self._unmatched[address]
        if queue and missing(queue[0]):
            return queue.popleft()
        message = Message(address)
        queue.append(message)
        return message

    def _start(self, message: Message) -> None:
        content, buffer = message.content, message.buffer
        if content is None or buffer is None:
            return
        if content.dtype != buffer.dtype or content.numel() != buffer.numel():
            raise ValueError(
                f"message {message.address}: sent {content.dtype} {tuple(content.shape)}, "
                f"received as {buffer.dtype} {tuple(buffer.shape)}"
            )
        message.arrives_at = self._now + self._delay(message.address)
        if message.waiter is not None:
            self._arrive(message.waiter, message)

    def _await(self, worker: int, request: Message | Meeting) -> None:
        if isinstance(request, Meeting):
            if len(request.contents) == len(request.workers):
                self._resume(worker, self._now, request.contents[worker])
            else:
                request.waiters.add(worker)
        elif request.arrives_at is None:
            request.waiter = worker
        else:
            self._arrive(worker, request)

    def _arrive(self, worker: int, message: Message) -> None:
        assert message.arrives_at is not None
        self._resume(worker, max(self._now, message.arrives_at), message.deliver())

    def _resume(self, worker: int, at: float, reply: Tensor | None) -> None:
        self._turn += 1
        heapq.heappush(self._ready, (at, self._turn, worker, reply))
