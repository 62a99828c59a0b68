"""Where the text comes from: CPython itself, or a folder of text files."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from ithaca.workloads.lm.config import DataConfig

_LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "encodings",  # generated tables
    "idlelib",
    "idle_test",
    "lib2to3",
    "pydoc_data",  # its text is read as topics
    "site-packages",
    "test",
    "tests",
}
"""Folders of the standard library that are not read."""


def documents(config: DataConfig) -> list[tuple[str, bytes]]:
    """The documents as (name, UTF-8 text), sorted by name.

    Raises:
        ValueError: there is no such folder, no text in it, or a file cannot be read.
    """
    if config.folder is not None:
        return list(_folder(config.folder))
    return sorted([*_topics(), *_standard_library()])


def signature(config: DataConfig) -> str:
    """Changes when a file of the configuration's folder does: names, sizes, times of change.

    Python's own text does not change while it runs.

    Raises:
        ValueError: a part of the folder cannot be read.
    """
    root = config.folder
    if root is None or not root.is_dir():
        return ""
    digest = sha256()
    for path in _files(root):
        found = path.stat()
        digest.update(f"{path}\0{found.st_size} {found.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _topics() -> Iterator[tuple[str, bytes]]:
    """The topics of ``help()``; the name of each is its file name here."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError(
            "this Python has no documentation topics (module pydoc_data.topics), which the data "
            "source `python` needs; install Python's full standard library, or give a folder of "
            "text files with `data: {folder: <path>}`"
        ) from error
    for name, text in topics.items():
        yield f"topics/{name}", text.encode()


def _standard_library() -> Iterator[tuple[str, bytes]]:
    """The .py files of the standard library, tests and generated tables left out."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in _files(root, _LEFT_OUT):
        name = path.relative_to(root).as_posix()
        # _sysconfigdata and config-*/ describe the machine, not the language
        if path.suffix == ".py" and not name.startswith(("_sysconfigdata", "config-")):
            text = _text(path)
            if text:
                yield f"lib/{name}", text


def _folder(root: Path) -> Iterator[tuple[str, bytes]]:
    """The text files below ``root``; hidden files and files that are not text are passed over."""
    advice = "give a folder of UTF-8 text files with `data: {folder: <path>}`"
    if not root.exists():
        raise ValueError(f"the data folder {root} does not exist; {advice}")
    if not root.is_dir():
        raise ValueError(f"the data folder {root} is not a folder; {advice}")
    seen = found = 0
    for path in _files(root):
        seen += 1
        text = _text(path)
        if text:
            found += 1
            yield path.relative_to(root).as_posix(), text
    if not found:
        what = f"has {seen} files, but none with UTF-8 text" if seen else "has no files"
        raise ValueError(f"the data folder {root} {what}; {advice}")


def _files(root: Path, left_out: set[str] | frozenset[str] = frozenset()) -> Iterator[Path]:
    """Regular files below ``root`` in a fixed order, without hidden ones; links to folders stay
    unfollowed, so that the search ends."""
    for folder, below, names in os.walk(root, onerror=_refuse):
        below[:] = sorted(n for n in below if n not in left_out and not n.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _text(path: Path) -> bytes | None:
    """The bytes of a text file; None if it is not UTF-8 or has a zero byte."""
    try:
        content = path.read_bytes()
    except OSError as error:
        _refuse(error)
    if b"\0" in content:
        return None
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return content


def _refuse(error: OSError) -> NoReturn:
    raise ValueError(
        f"cannot read the data {error.filename}: {error.strerror}; "
        "change its permissions or take it out of the data folder"
    ) from error
