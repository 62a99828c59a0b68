"""File operations whose outcome survives a crash: the whole new file, or the old one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


class Disk:
    """The operations that change a folder; tests pass one that fails at a chosen operation.

    All raise ``OSError``. None is atomic beyond what POSIX promises for the single call, so the
    order in which callers use them is what makes a crash harmless.
    """

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Creates ``path``, which must not exist, writes ``chunks`` and waits for the disk."""
        with path.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Gives ``old`` the name ``new``; a file that has this name is replaced."""
        old.rename(new)

    def sync_folder(self, folder: Path) -> None:
        """Waits until the names in ``folder`` are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path) -> None:
        """Creates ``folder`` and its parents; ``FileExistsError`` if it exists already."""
        folder.mkdir(parents=True)

    def remove(self, path: Path) -> None:
        """Removes a file, or a folder with all that is in it."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def replace_file(
    path: Path, chunks: Iterable[bytes | memoryview], disk: Disk | None = None
) -> None:
    """Writes ``path`` whole or not at all: another name, fsync, rename, fsync of the folder.

    After an ``OSError`` the old file, if there was one, is as it was, unless the error came from
    the last fsync; then either is there, each whole. The temporary file is removed.
    """
    disk = disk or Disk()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        disk.write(temporary, chunks)
        disk.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            disk.remove(temporary)
        raise
    disk.sync_folder(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether ``path`` has a name that :func:`replace_file` gives to an unfinished file."""
    return _TEMPORARY.fullmatch(path.name) is not None
