"""Why a call to a run did not work, for programs and for people."""

from __future__ import annotations

from enum import Enum

from ithaca.runtime.errors import UserError


class Trouble(Enum):
    """The kinds of failure a caller may want to tell apart."""

    ABSENT = "absent"
    """There is no such run, or it is not running."""
    UNREACHABLE = "unreachable"
    """Nothing answers where the run should be."""
    REFUSED = "refused"
    """The token is not the run's."""
    SLOW = "slow"
    """No answer before the deadline."""
    BUSY = "busy"
    """The run has no room for the call, or the message is too large."""
    INVALID = "invalid"
    """The run did not understand the request."""
    BROKEN = "broken"
    """The run failed to answer."""


class ControlError(UserError):
    """A call to a run failed; the message says what happened and what to do next.

    Attributes:
        trouble: what kind of failure it is.
    """

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(trouble, message)
        self.trouble = trouble
        self.message = message

    def __str__(self) -> str:
        return self.message
