"""What is wrong with a checkpoint, named by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Damage:
    """``path`` cannot be used because of ``problem``."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class DamagedError(Exception):
    """A checkpoint, or a file of it, is not what its manifest says; ``damage`` tells which."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage)
        self.damage = damage

    def __str__(self) -> str:
        return str(self.damage)


class CheckpointFailedError(Exception):
    """A checkpoint could not be saved; training can go on.

    What is left of it is nothing, or the whole of it; never a part that could be taken for one.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason

    def __str__(self) -> str:
        return f"the checkpoint of step {self.step} failed: {self.reason}"
