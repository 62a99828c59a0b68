"""What the user did wrong, told to the user: one message, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can correct; the command line prints it and exits with 2.

    The message says what happened, what was given, what is valid and what to do next.
    """

    exit_code = 2
