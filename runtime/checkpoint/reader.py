"""Reads a layer's file and refuses it unless every byte is what the manifest says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path
from typing import BinaryIO

import torch

from ithaca.runtime.checkpoint.damage import Damage, DamagedError
from ithaca.runtime.checkpoint.header import Entry, decode, header_bytes
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.record import RecordError

_CHUNK = 1 << 22


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """``path`` open for reading, if it is a plain file.

    Links, pipes and devices are refused: a checkpoint holds none, and a pipe would block.

    Raises:
        DamagedError: it is missing, no plain file, or the disk does not give it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DamagedError(Damage(path, "is not a plain file"))
            yield file  # type: ignore[misc]  # unbuffered: FileIO, which reads like BinaryIO
    except FileNotFoundError:
        raise DamagedError(Damage(path, "is missing")) from None
    except OSError as error:
        problem = "is a link" if error.errno == ELOOP else f"cannot be read: {error.strerror}"
        raise DamagedError(Damage(path, problem)) from error


def read_whole(path: Path, largest: int) -> bytearray:
    """The bytes of ``path``; ``DamagedError`` if there are more than ``largest``."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise DamagedError(Damage(path, f"has {size} bytes; at most {largest} are read"))
        data = bytearray(size)
        read = _fill(file, memoryview(data))
        if read < size:
            raise DamagedError(Damage(path, f"ended after {read} of {size} bytes while read"))
        return data


def check_layer(folder: Path, layer: LayerFile) -> None:
    """Hashes the layer's file in ``folder`` as it is on the disk, and checks its header.

    Raises:
        DamagedError: it is missing, has another length, another hash, or other tensors.
    """
    path = folder / layer.file
    with opened(path) as file:
        _check_size(path, os.fstat(file.fileno()).st_size, layer)
        # What was just written is still in memory; the disk's own copy is what will be resumed.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256()
        start = _read(file, 8)
        digest.update(start)
        header = b""
        try:
            header = _read(file, header_bytes(start, layer.bytes))
        except RecordError as error:
            raise DamagedError(Damage(path, str(error))) from error
        digest.update(header)
        buffer = memoryview(bytearray(_CHUNK))
        while read := _fill(file, buffer):
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
    with opened(path) as file:
        # Before anything is allocated: a wrong file may be of any size.
        _check_size(path, os.fstat(file.fileno()).st_size, layer)
    data = read_whole(path, layer.bytes)
    _check_size(path, len(data), layer)
    _check_hash(path, hashlib.sha256(data).hexdigest(), layer)
    try:
        begin = 8 + header_bytes(bytes(data[:8]), len(data))
    except RecordError as error:
        raise DamagedError(Damage(path, str(error))) from error
    entries = _check_tensors(path, bytes(data[8:begin]), layer)
    return {entry.name: _tensor(data, begin, entry) for entry in entries}


def _tensor(data: bytearray, begin: int, entry: Entry) -> torch.Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=entry.dtype)
    count = (entry.end - entry.begin) // entry.dtype.itemsize
    view = torch.frombuffer(data, dtype=entry.dtype, count=count, offset=begin + entry.begin)
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


def _check_tensors(path: Path, header: bytes, layer: LayerFile) -> list[Entry]:
    try:
        entries = decode(header, layer.bytes - 8 - len(header))
    except RecordError as error:
        raise DamagedError(Damage(path, f"not a safetensors file: {error}")) from error
    found = tuple(sorted((entry.info for entry in entries), key=lambda info: info.name))
    if found != layer.tensors:
        raise DamagedError(Damage(path, "holds other tensors than the manifest says"))
    return entries


def _read(file: BinaryIO, size: int) -> bytes:
    data = bytearray(size)
    return bytes(data[: _fill(file, memoryview(data))])


def _fill(file: BinaryIO, buffer: memoryview) -> int:
    """Reads until ``buffer`` is full or the file ends; the number of bytes read."""
    done = 0
    while done < len(buffer) and (read := os.readv(file.fileno(), [buffer[done:]])):
        done += read
    return done
