"""The names in a run's ``checkpoints`` folder, and what each says about its state."""

from __future__ import annotations

import re
import secrets
from enum import Enum
from pathlib import Path

LATEST = "latest"
"""A text file with the name of the newest verified checkpoint's folder."""

_STEP = r"step-(\d{8,13})"
_COMMITTED = re.compile(_STEP)
_LEFTOVER = re.compile(_STEP + r"\.(partial|replaced|removed)-[0-9a-f]{8}")


class Leftover(Enum):
    """Folders that only a crash leaves behind.

    ``partial``: being written. ``replaced``: the one that a new checkpoint of the same step takes
    the place of. ``removed``: being deleted.
    """

    PARTIAL = "partial"
    REPLACED = "replaced"
    REMOVED = "removed"


def step_name(step: int) -> str:
    """The name of the committed checkpoint of ``step``."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int | None:
    """The step of a committed checkpoint's folder; None for every other name."""
    match = _COMMITTED.fullmatch(path.name)
    # 00000120 and 000000120 would be two folders of one step; only the first is a name of ours.
    return int(match[1]) if match and step_name(int(match[1])) == path.name else None


def leftover_path(root: Path, step: int, kind: Leftover) -> Path:
    """A new name for a folder in ``root`` that is not to be taken for a checkpoint.

    No two are alike, so that a writer of a given-up checkpoint cannot reach into its successor.
    """
    return root / f"{step_name(step)}.{kind.value}-{secrets.token_hex(4)}"


def leftover_of(path: Path) -> tuple[int, Leftover] | None:
    """The step and kind of a folder named by :func:`leftover_path`; None for other names."""
    match = _LEFTOVER.fullmatch(path.name)
    return (int(match[1]), Leftover(match[2])) if match else None
