"""What a memory session refuses, and why."""

from __future__ import annotations

import torch


class BudgetError(torch.OutOfMemoryError):
    """A step does not fit its budget, whatever is moved away.

    Args:
        needed_bytes: a budget that suffices, as far as is known.
        budget_bytes: the one that was given.
    """

    def __init__(self, message: str, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes


class Unsupported(ValueError):
    """A model or setting under which bits or the budget could not be promised."""
