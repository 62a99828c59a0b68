"""What the user did wrong, told to the user: one message, no traceback."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A mistake that the user can correct; the command line prints it and exits with 2.

    The message says what happened, what was given, what is valid and what to do next.
    """

    exit_code = 2


class UnwritableError(UserError):
    """A file cannot be written: the disk is full, read-only or gone. What is in it is whole."""

    exit_code = 1

    @staticmethod
    def of(path: Path, error: OSError) -> UnwritableError:
        """That ``path`` met with ``error``."""
        return UnwritableError(
            f"{path} cannot be written: {error.strerror}. All that is in it is whole: make room, "
            "then go on from there."
        )
