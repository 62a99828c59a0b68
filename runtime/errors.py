"""What the user did wrong, told to the user: one message, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can correct; the command line prints it and exits with 2.

    The message says what happened, what was given, what is valid and what to do next.
    """

    exit_code = 2


class UnwritableError(UserError):
    """A file cannot be written: the disk is full, read-only or gone. What is in it is whole."""

    exit_code = 1


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is done in here writes ``path``: an ``OSError`` of it is an :class:`UnwritableError`."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"{path} cannot be written: {error.strerror}. What was written before is whole: put "
            "that right, then go on from there."
        ) from error
