"""Which states of trials are on the disk, beside the journal; what is in them is not looked at.

One file for each trial, of its newest state, see :mod:`ithaca.tuners.loop.files`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FOLDER = "states"
_NAME = re.compile(r"(\d+)-(\d+)\.safetensors")


class StateFolder:
    """States of trials by their names: a coordinator, which has no torch, needs no more.

    Args:
        folder: of the states alone, the same for all processes of the search.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def steps(self) -> dict[int, int]:
        """The newest step of every trial that has a state here."""
        found: dict[int, int] = {}
        for trial, step in self._all():
            found[trial] = max(found.get(trial, 0), step)
        return found

    def drop(self, trials: Iterable[int]) -> None:
        """Remove the states of trials that nobody needs any more."""
        for trial in trials:
            self._remove(trial, below=None)

    def clear(self) -> None:
        """Remove all states and what is left of unfinished ones."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _path(self, trial: int, step: int) -> Path:
        return self._folder / f"{trial}-{step}.safetensors"

    def _all(self) -> list[tuple[int, int]]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        fits = (_NAME.fullmatch(name) for name in names)
        return [(int(each[1]), int(each[2])) for each in fits if each]

    def _remove(self, trial: int, below: int | None) -> None:
        for number, step in self._all():
            if number == trial and (below is None or step < below):
                with suppress(FileNotFoundError):
                    self._path(number, step).unlink()
