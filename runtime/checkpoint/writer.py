"""Writes a layer's file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ithaca.runtime.atomic import Disk, replace_file
from ithaca.runtime.checkpoint.header import encode, layout
from ithaca.runtime.checkpoint.layer_file import LayerFile, file_name
from ithaca.runtime.checkpoint.state import LayerState


def write_layer(
    folder: Path, layer: str, state: LayerState, step: int, disk: Disk | None = None
) -> LayerFile:
    """Writes ``<folder>/<layer>.safetensors``: temporary name, fsync, rename, fsync of the folder.

    ``folder`` must exist: it is made when a checkpoint begins and renamed away when it ends, so
    a writer that comes too late fails instead of leaving a file somewhere. The state must not
    change meanwhile; ``step`` is noted in the file's metadata.

    Raises:
        OSError: the disk is full or gone. No file is left.
        ValueError: the layer's name or a tensor's type cannot be stored.
    """
    tensors = {key: tensor.detach().cpu() for key, tensor in state.items()}
    name = file_name(layer)
    metadata = {"layer": layer, "step": str(step)}
    sha256, size = write_tensors(folder / name, tensors, metadata, disk)
    infos = sorted((entry.info for entry in layout(tensors)), key=lambda info: info.name)
    return LayerFile(layer, name, sha256, size, tuple(infos))


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    disk: Disk | None = None,
) -> tuple[str, int]:
    """Writes a safetensors file atomically; its sha256 in hex and its length in bytes.

    Raises:
        OSError: the disk is full or gone. No file is left.
        ValueError: a tensor's type cannot be stored.
    """
    digest = hashlib.sha256()
    size = 0

    def hashed() -> Iterator[bytes | memoryview]:
        nonlocal size
        for chunk in encode(tensors, metadata):
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    replace_file(path, hashed(), disk)
    return digest.hexdigest(), size
