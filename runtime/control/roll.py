"""Who attends: for each worker a post through which orders reach it at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum


class OrderKind(Enum):
    """What the controller wants of a worker at once."""

    FENCE = "fence"
    """The generation is over: stop at the next named point and wait."""
    DRAIN = "drain"
    """Stop behind this step."""
    PAUSE = "pause"
    """Wait behind this step."""
    INJECT = "inject"
    """Do the fault that the text names to yourself (drills)."""
    DUMP = "dump"
    """Write the stacks of all threads to the log."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order; ``generation`` is the run's when it was given."""

    generation: int
    kind: OrderKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Attend:
    """A worker's request for orders.

    Attributes:
        worker: its number.
        incarnation: names its process, as in its beats.
        generation: the one it works in.
    """

    worker: int
    incarnation: str
    generation: int


class Post:
    """One worker's orders in one connection, oldest first. Made by :meth:`Roll.enter`."""

    def __init__(
        self, who: Attend, orders: Sequence[Order], on_left: Callable[[Post], None]
    ) -> None:
        self.who = who
        self._orders = deque(orders)
        self._on_left = on_left
        self._changed = threading.Condition()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Nothing comes after what :meth:`take` still has."""
        with self._changed:
            return self._ended and not self._orders

    def put(self, order: Order) -> None:
        """Add an order; forgotten if the post has ended."""
        with self._changed:
            if not self._ended:
                self._orders.append(order)
                self._changed.notify_all()

    def take(self, timeout_s: float) -> Order | None:
        """The next order; None if there is none within ``timeout_s`` seconds, or the post ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or bool(self._orders), timeout_s)
            return self._orders.popleft() if self._orders else None

    def end(self) -> None:
        """Take no more orders; nobody is told."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        """The connection is gone: end, and tell the roll."""
        self.end()
        self._on_left(self)


class Roll:
    """The posts of all workers that attend. Methods may be called from any thread.

    Args:
        on_left: told who left: its connection closed, and it has not come back on another. Not
            called for a post that was replaced, dismissed or closed. Called from gRPC's threads.
    """

    def __init__(self, on_left: Callable[[Attend], None]) -> None:
        self._on_left = on_left
        self._lock = threading.Lock()
        self._posts: dict[int, Post] = {}

    def enter(self, who: Attend, greeting: Sequence[Order] = ()) -> Post:
        """A new post for a worker, in place of an older one; ``greeting`` comes first in it."""
        post = Post(who, greeting, self._left)
        with self._lock:
            before = self._posts.get(who.worker)
            self._posts[who.worker] = post
        if before is not None:
            before.end()
        return post

    def attending(self) -> dict[int, Attend]:
        """Who is connected now, by worker."""
        with self._lock:
            return {worker: post.who for worker, post in self._posts.items()}

    def push(self, order: Order, workers: Collection[int]) -> frozenset[int]:
        """Give ``order`` to ``workers``; those of them that are connected now."""
        with self._lock:
            reached = {w: post for w, post in self._posts.items() if w in workers}
        for post in reached.values():
            post.put(order)
        return frozenset(reached)

    def dismiss(self, worker: int) -> None:
        """End a worker's post; it is not reported as left."""
        with self._lock:
            post = self._posts.pop(worker, None)
        if post is not None:
            post.end()

    def close(self) -> None:
        """End all posts; nobody is reported as left."""
        with self._lock:
            posts, self._posts = self._posts, {}
        for post in posts.values():
            post.end()

    def _left(self, post: Post) -> None:
        with self._lock:
            current = self._posts.get(post.who.worker) is post
            if current:
                del self._posts[post.who.worker]
        if current:
            self._on_left(post.who)
