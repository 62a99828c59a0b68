"""Something that calls in many threads work with until it is given up, and then is nobody's.

Invariant: a call that works with it is counted from before it has it until no frame of the call
refers to it any more; when :meth:`Lease.give_up` has returned True, none does.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Vacant(RuntimeError):
    """There is nothing to work with."""


class Use(Generic[Thing]):
    """How one call reaches the thing; its own frame refers to this alone."""

    def __init__(self, thing: Thing) -> None:
        self._thing: Thing | None = thing

    @property
    def thing(self) -> Thing:
        """What is worked with, as long as the call lasts."""
        assert self._thing is not None, "the call has ended"
        return self._thing

    def end(self) -> None:
        """Refer to it no more."""
        self._thing = None


class Lease(Generic[Thing]):
    """One thing after another, each for as long as it is held.

    Args:
        vacant: what a call is told when there is nothing to work with.

    Attributes:
        changed: notified when a call begins or ends, and when the thing is given up.
    """

    def __init__(self, vacant: str) -> None:
        self._vacant = vacant
        self.changed = threading.Condition()
        self._held: Thing | None = None
        self._calls = 0

    def hold(self, thing: Thing) -> None:
        """From now on calls work with it."""
        with self.changed:
            self._held = thing

    def holds(self, thing: Thing) -> bool:
        """Whether it has not been given up."""
        return self._held is thing

    @contextmanager
    def use(self) -> Iterator[Use[Thing]]:
        """A call that works with it.

        Raises:
            Vacant: there is nothing to work with.
        """
        with self.changed:
            if self._held is None:
                raise Vacant(self._vacant)
            use = Use(self._held)
            self._calls += 1
            self.changed.notify_all()
        try:
            yield use
        except BaseException as error:
            _forget_locals(error)
            raise
        finally:
            use.end()
            with self.changed:
                self._calls -= 1
                self.changed.notify_all()

    def give_up(self, end: Callable[[Thing], float]) -> bool:
        """Let no call have it any more, and wait for those that do.

        Args:
            end: makes them come to an end; returns for how many seconds they may take.

        Returns:
            Whether all of them have.
        """
        with self.changed:
            thing, self._held = self._held, None
            self.changed.notify_all()
        if thing is None:
            return True
        bound_s = end(thing)
        del thing
        with self.changed:
            return self.changed.wait_for(lambda: self._calls == 0, bound_s)


def _forget_locals(error: BaseException | None) -> None:
    """The frames that an error came through keep their lines, which are told, and nothing else."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
