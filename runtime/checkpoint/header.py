"""The safetensors format: eight bytes of length, a JSON header, the tensors' bytes.

Written and read here instead of by the library for three reasons that were measured or seen with
its version 0.8: its ``load`` of bytes keeps the interpreter lock for seconds on a large layer, so
that heartbeats stop; its ``save_file`` reports a full disk without an error number and does not
wait for the disk; and a file's hash can be made in the same pass as the file. The files are the
library's own format, byte order and alignment included; tests read each with the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ithaca.runtime.checkpoint.layer_file import TensorInfo
from ithaca.runtime.checkpoint.record import Record, RecordError, check_number, parse_json

if TYPE_CHECKING:
    import torch

LONGEST = 100_000_000
"""Bytes of header that a reader accepts, as the library does."""

_CHUNK = 1 << 24
_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


def _itemsize(code: str) -> int:
    return 1 if code == "BOOL" else int(code.lstrip("BFIU")) // 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file: bytes ``begin`` to ``end`` (excluded) behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def info(self) -> TensorInfo:
        """What the manifest records of it."""
        return TensorInfo(self.name, self.dtype, self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of the elements, as torch knows it."""
        import torch  # here, so that a header can be read without it

        return cast("torch.dtype", getattr(torch, self.dtype))


def layout(tensors: Mapping[str, torch.Tensor]) -> list[Entry]:
    """Where each tensor goes: widest types first, so that all are aligned; then by name.

    Raises:
        ValueError: a tensor has a type that the format, or a checkpoint, has no use for.
    """
    entries: list[Entry] = []
    begin = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _CODES:
            raise ValueError(f"tensor {name!r} has type {tensor.dtype}, which cannot be saved")
        end = begin + tensor.numel() * tensor.itemsize
        entries.append(Entry(name, dtype, tuple(tensor.shape), begin, end))
        begin = end
    return entries


def encode(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The file that holds ``tensors``, in pieces of at most 16 MiB that share their memory."""
    entries = layout(tensors)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    for entry in entries:
        offsets = [entry.begin, entry.end]
        shape = list(entry.shape)
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": shape,
            "data_offsets": offsets,
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for entry in entries:
        view = raw_bytes(tensors[entry.name])
        for first in range(0, len(view), _CHUNK):
            yield view[first : first + _CHUNK]


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, in row-major order; not a copy if it is contiguous."""
    import torch  # here, so that a header can be read without it

    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]  # numpy's stubs hide the buffer


def header_bytes(start: bytes | bytearray, size: int) -> int:
    """Length of the header of a file of ``size`` bytes that begins with ``start`` (8 bytes).

    Raises:
        RecordError: the file is too short for the header that it announces.
    """
    if len(start) < 8:
        raise RecordError(f"{size} bytes are too few for a safetensors file")
    length = int.from_bytes(start, "little")
    if length > min(LONGEST, size - 8):
        raise RecordError(f"a header of {length} bytes does not fit into a file of {size} bytes")
    return length


def decode(header: bytes | bytearray, data_bytes: int) -> list[Entry]:
    """The tensors of a file with ``header`` and ``data_bytes`` behind it, in the file's order.

    Raises:
        RecordError: the header is malformed, or the tensors do not fill the data exactly.
    """
    top = parse_json(header)
    if not isinstance(top, dict):
        raise RecordError("the header is not an object")
    top.pop("__metadata__", None)
    entries = sorted(
        (_entry(name, value) for name, value in top.items()),
        key=lambda entry: (entry.begin, entry.end),
    )
    begin = 0
    for entry in entries:
        if entry.begin != begin:
            raise RecordError(f"{entry.name[:80]}: starts at byte {entry.begin}, not {begin}")
        begin = entry.end
    if begin != data_bytes:
        raise RecordError(f"the tensors take {begin} bytes, the file has {data_bytes} for them")
    return entries


def _entry(name: str, value: object) -> Entry:
    where = name[:80]
    record = Record(value, where)
    code = record.text("dtype")
    dtype = _DTYPES.get(code)
    if dtype is None:
        raise RecordError(f"{where}: type {code[:20]!r} is none that a checkpoint holds")
    shape = tuple(check_number(size, f"{where}.shape") for size in record.items("shape"))
    offsets = [check_number(at, f"{where}.data_offsets") for at in record.items("data_offsets")]
    record.close()
    count = 1
    for size in shape:
        count *= size
    if len(offsets) != 2 or offsets[1] - offsets[0] != count * _itemsize(code):
        raise RecordError(f"{where}: data_offsets {offsets[:2]} do not fit shape and type")
    return Entry(name, dtype, shape, offsets[0], offsets[1])
