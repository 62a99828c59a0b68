"""From the bytes of a YAML file to plain data with a position for every key and value.

The text is read event by event, so that nothing is built from it but mappings, lists and scalars,
and limits hold before memory is spent. Scalars follow the core schema of YAML 1.2: ``1e-3`` is a
number; ``yes``, ``on`` and ``1:30`` are text.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ithaca.runtime.config.compose import Node, compose
from ithaca.runtime.config.errors import ConfigError, Problem, config_error
from ithaca.runtime.config.provenance import Key, Position, printable

MAX_BYTES = 2**20
"""A job is a page of text; a larger file is a mistake."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file holds.

    Attributes:
        text: the file as it is.
        data: mappings, lists, and scalars (str, int, float, bool, None).
        keys: where each key stands.
        values: where each value stands.
        problems: mistakes that do not depend on the meaning of the keys.
    """

    text: str
    data: Any
    keys: dict[Key, Position]
    values: dict[Key, Position]
    problems: tuple[Problem, ...]


def read_source(path: Path) -> Source:
    """The content of the file ``path``.

    Raises:
        ConfigError: there is no such file, or it cannot be read as YAML at all.
    """
    file = file_name(path)
    return source_of(_read(path, file), file)


def source_of(text: str, file: str) -> Source:
    """The content of ``text``, which messages name ``file``.

    Raises:
        ConfigError: it cannot be read as a job at all.
    """
    source = parse_source(text)
    if source.data is None and not source.problems:
        what = "is empty; a job gives at least name, workload and steps"
        raise ConfigError(file, [f"{file}: {what}"])
    if not isinstance(source.data, dict) and not source.problems:
        what = "a job is written as 'key: value' lines, this is something else"
        raise config_error(file, [Problem(Position(1, 1), what)])
    return source


def file_name(path: Path) -> str:
    """How messages name the file ``path``."""
    return printable(str(path), most=200)


def parse_source(text: str) -> Source:
    """The content of ``text``; mistakes are in ``problems``, then ``data`` may be incomplete."""
    root, problems = compose(text)
    keys: dict[Key, Position] = {}
    values: dict[Key, Position] = {}
    data = None if root is None else _flatten(root, (), root.mark, keys, values)
    return Source(text, data, keys, values, tuple(problems))


def _flatten(
    node: Node, key: Key, mark: Position, keys: dict[Key, Position], values: dict[Key, Position]
) -> Any:  # noqa: ANN401 - plain data of any form
    values[key] = mark
    match node.value:
        case dict() as pairs:
            for name, (at, _) in pairs.items():
                keys[*key, name] = at
            return {
                name: _flatten(item, (*key, name), item.mark, keys, values)
                for name, (_, item) in pairs.items()
            }
        case list() as items:
            return [
                _flatten(item, (*key, index), item.mark, keys, values)
                for index, item in enumerate(items)
            ]
        case scalar:
            return scalar


def _read(path: Path, file: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ConfigError(file, [f"{file}: is {kind}; give the path of a job's YAML file"])
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(file, [f"{file}: there is no such file{_similar(path)}"]) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(file, [f"{file}: cannot be read: {why}"]) from None
    if len(raw) > MAX_BYTES:
        limit = f"is larger than {MAX_BYTES // 2**20} MiB; a job is a page of text"
        raise ConfigError(file, [f"{file}: {limit}"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise config_error(file, [Problem(Position(line, column), what)]) from None


def _similar(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return f"; there is no folder {path.parent} either" if not path.parent.exists() else ""
    close = get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""
