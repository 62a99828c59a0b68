"""Runs the engine on a real worker: blocks where it waits, and notes when everything happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ithaca.planner.program import Step
from ithaca.runtime.engine.channel import ChannelError, CorruptMessage
from ithaca.runtime.engine.steps import After, Before, Point, Steps, Vote

T = TypeVar("T")
Row = tuple[str, float, float]
"""What, from when to when, in seconds since the step began."""


class ChannelFailed(RuntimeError):
    """A message did not come: its sender, or somebody that the sender waits for, is gone.

    Attributes:
        action: what this worker was doing, as text.
        reason: what the channel said.
        corrupt: the message came, and its checksum was wrong.
        absent: workers that did not come to a meeting.
    """

    def __init__(
        self,
        action: str,
        reason: str,
        corrupt: bool = False,
        absent: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(action, reason, corrupt, absent)
        self.action = action
        self.reason = reason
        self.corrupt = corrupt
        self.absent = absent

    def __str__(self) -> str:
        return f"while in {self.action}: {self.reason}"


class Interrupted(RuntimeError):
    """The worker was told to stand still: its generation is over."""


def drive(
    steps: Steps[T],
    enter: Callable[[Point], None],
    now: Callable[[], float],
    rows: list[Row],
    *,
    leave: Callable[[Point], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[Point | str, bool], None] = lambda *_: None,
) -> T:
    """Run ``steps`` to its end; its result.

    Args:
        steps: of the engine.
        enter: told each action as it begins, for the heartbeat.
        now: a clock in seconds.
        rows: filled with what was done when; the time that a compute waits for its input is a
            row of its own, ``WAIT`` and the action.
        leave: told each action as it ends.
        stop: whether the worker is to stand still. Looked at before each action but STEP: behind
            the commit everything is stepped (I1).
        wait: told when a message that the action needs is waited for (True), and when it came:
            who waits is not to blame for what does not come.

    Raises:
        ChannelFailed: the channel gave up on a message.
        Interrupted: ``stop`` said so.
    """
    origin = began = now()
    doing: Point | str = "start"
    reply: Any = None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except ChannelError as error:
            raise _failed(doing, error) from error
        reply = None
        if isinstance(request, Before):
            if not isinstance(request.action, Step) and stop():
                steps.close()
                raise Interrupted(f"told to stand still before {request.action}")
            doing, began = request.action, now()
            enter(request.action)
        elif isinstance(request, After):
            leave(request.action)
            if isinstance(request.action, Vote):
                continue
            rows.append((str(doing), began - origin, now() - origin))
        else:
            waited = now()
            wait(doing, True)
            try:
                reply = request.wait()
            except RuntimeError as error:
                raise _failed(doing, error) from error
            wait(doing, False)
            if doing_computes(doing):
                rows.append((f"WAIT {doing}", waited - origin, now() - origin))
                began = now()


def _failed(doing: Point | str, error: RuntimeError) -> ChannelFailed:
    return ChannelFailed(str(doing), str(error), isinstance(error, CorruptMessage))


def doing_computes(doing: Point | str) -> bool:
    """Whether the action is F, B, I or W, which wait only for their input."""
    return getattr(doing, "micro_batch", None) is not None
