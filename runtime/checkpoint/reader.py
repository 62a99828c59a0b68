"""Reads a layer's file and refuses it unless every byte is what the manifest says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.runtime.checkpoint.damage import Damage, DamagedError
from ithaca.runtime.checkpoint.header import Entry, decode, header_bytes
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.record import RecordError

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 22


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of ``path``, open for reading, if it is a plain file.

    Links, pipes and devices are refused: a checkpoint holds none, and a pipe would block.

    Raises:
        DamagedError: it is missing, no plain file, or the disk does not give it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DamagedError(Damage(path, "is missing")) from None
    except OSError as error:
        problem = "is a link" if error.errno == ELOOP else f"cannot be read: {error.strerror}"
        raise DamagedError(Damage(path, problem)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedError(Damage(path, "is not a plain file"))
        yield descriptor
    finally:
        os.close(descriptor)


def read_whole(path: Path, largest: int) -> bytearray:
    """The bytes of ``path``; ``DamagedError`` if there are more than ``largest``."""
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > largest:
            raise DamagedError(Damage(path, f"has {size} bytes; at most {largest} are read"))
        return _read(path, descriptor, size)


def check_layer(folder: Path, layer: LayerFile) -> None:
    """Hashes the layer's file in ``folder`` as it is on the disk, and checks its header.

    Raises:
        DamagedError: it is missing, has another length, another hash, or other tensors.
    """
    path = folder / layer.file
    with opened(path) as descriptor:
        _check_size(path, os.fstat(descriptor).st_size, layer)
        # What was just written is still in memory; the disk's own copy is what will be resumed.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256()
        start = _read(path, descriptor, min(8, layer.bytes))
        digest.update(start)
        header = _read(path, descriptor, _header_bytes(path, start, layer.bytes))
        digest.update(header)
        buffer = memoryview(bytearray(_CHUNK))
        while read := _fill(path, descriptor, buffer):
            digest.update(buffer[:read])
    _check_hash(path, digest.hexdigest(), layer)
    _check_tensors(path, header, layer)


def read_layer(folder: Path, layer: LayerFile) -> dict[str, torch.Tensor]:
    """The tensors of ``layer`` by key, on the CPU, each in memory of its own.

    The bytes that are hashed are the bytes that become tensors: the file is read once.

    Raises:
        DamagedError: as :func:`check_layer`.
    """
    path = folder / layer.file
    with opened(path) as descriptor:
        # Before anything is allocated: a wrong file may be of any size.
        _check_size(path, os.fstat(descriptor).st_size, layer)
        data = _read(path, descriptor, layer.bytes)
    _check_hash(path, hashlib.sha256(data).hexdigest(), layer)
    begin = 8 + _header_bytes(path, data[:8], layer.bytes)
    entries = _check_tensors(path, data[8:begin], layer)
    return {entry.name: _tensor(data, begin, entry) for entry in entries}


def _tensor(data: bytearray, begin: int, entry: Entry) -> torch.Tensor:
    import torch  # here: who only checks files needs none

    dtype = entry.torch_dtype
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=dtype)
    count = (entry.end - entry.begin) // dtype.itemsize
    view = torch.frombuffer(data, dtype=dtype, count=count, offset=begin + entry.begin)
    # The copy is aligned as torch aligns and does not keep the whole file in memory.
    return view.reshape(entry.shape).clone()


def _check_size(path: Path, size: int, layer: LayerFile) -> None:
    if size != layer.bytes:
        problem = "is truncated" if size < layer.bytes else "is too long"
        raise DamagedError(Damage(path, f"{problem}: {size} bytes, expected {layer.bytes}"))


def _check_hash(path: Path, sha256: str, layer: LayerFile) -> None:
    if sha256 != layer.sha256:
        problem = f"sha256 is {sha256}, the manifest says {layer.sha256}"
        raise DamagedError(Damage(path, problem))


def _check_tensors(path: Path, header: bytearray, layer: LayerFile) -> list[Entry]:
    try:
        entries = decode(header, layer.bytes - 8 - len(header))
    except RecordError as error:
        raise DamagedError(Damage(path, f"not a safetensors file: {error}")) from error
    found = tuple(sorted((entry.info for entry in entries), key=lambda info: info.name))
    if found != layer.tensors:
        raise DamagedError(Damage(path, "holds other tensors than the manifest says"))
    return entries


def _header_bytes(path: Path, start: bytearray, size: int) -> int:
    try:
        return header_bytes(start, size)
    except RecordError as error:
        raise DamagedError(Damage(path, f"not a safetensors file: {error}")) from error


def _read(path: Path, descriptor: int, size: int) -> bytearray:
    data = bytearray(size)
    read = _fill(path, descriptor, memoryview(data))
    if read < size:
        raise DamagedError(Damage(path, f"ended {size - read} bytes early while it was read"))
    return data


def _fill(path: Path, descriptor: int, buffer: memoryview) -> int:
    """Reads until ``buffer`` is full or the file ends; the number of bytes read."""
    done = 0
    try:
        while done < len(buffer) and (read := os.readv(descriptor, [buffer[done:]])):
            done += read
    except OSError as error:
        raise DamagedError(Damage(path, f"cannot be read: {error.strerror}")) from error
    return done
