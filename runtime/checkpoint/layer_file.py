"""One layer's file in a checkpoint, as the manifest records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ithaca.runtime.checkpoint.record import LARGEST, Record, RecordError, check_number

_SUFFIX = ".safetensors"
_LONGEST = 180


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a layer's file: its key, torch's name of its type (``bfloat16``), its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A file that was written.

    Attributes:
        name: the layer.
        file: its name in the checkpoint's folder; always ``file_name(name)``.
        sha256: of the whole file, as 64 hex digits.
        bytes: length of the whole file.
        tensors: what is in it, sorted by name.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    tensors: tuple[TensorInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """The members that :meth:`from_json` reads."""
        tensors = {each.name: [each.dtype, *each.shape] for each in self.tensors}
        return {
            "name": self.name,
            "file": self.file,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "tensors": tensors,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> LayerFile:
        """The file that :meth:`to_json` described; ``RecordError`` names what is wrong."""
        record = Record(value, where)
        name, file = record.text("name"), record.text("file")
        # The file's name is never taken from disk on trust: it could lead out of the folder.
        try:
            expected = file_name(name)
        except ValueError as error:
            raise RecordError(f"{where}.name: {error}") from error
        if file != expected:
            raise RecordError(f"{where}.file: expected {expected!r}, got {file[:80]!r}")
        tensors = tuple(
            _tensor(key, item, f"{where}.tensors.{key[:80]}")
            for key, item in sorted(record.mapping("tensors").items())
        )
        found = cls(
            name, file, record.text("sha256", "[0-9a-f]{64}"), record.number("bytes"), tensors
        )
        record.close()
        return found


def file_name(layer: str) -> str:
    """The name of the file of ``layer``: different for different layers, never a path.

    Characters other than letters, digits and ``_.-~`` are written as ``%XX``.

    Raises:
        ValueError: the name is empty or too long for a file.
    """
    try:
        stem = quote(layer, safe="")
    except UnicodeEncodeError as error:
        raise ValueError(f"a layer's name must be valid Unicode, not {layer[:80]!r}") from error
    if not 0 < len(stem) <= _LONGEST:
        raise ValueError(
            f"a layer's name must have 1 to {_LONGEST} characters (%XX counts as three), "
            f"not {len(stem)}: {layer[:80]!r}"
        )
    # A leading dot would hide the file, and mark it as an unfinished one.
    return ("%2E" + stem[1:] if stem.startswith(".") else stem) + _SUFFIX


def _tensor(name: str, item: object, where: str) -> TensorInfo:
    if not isinstance(item, list) or not item or not isinstance(item[0], str):
        raise RecordError(f"{where}: expected [type, size, ...]")
    shape = tuple(
        check_number(size, f"{where}[{i}]", LARGEST) for i, size in enumerate(item[1:], 1)
    )
    return TensorInfo(name, item[0], shape)
