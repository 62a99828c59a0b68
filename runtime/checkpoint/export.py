"""Writes the weights of a verified checkpoint the way Hugging Face lays out a model's folder."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ithaca.runtime.atomic import Disk, replace_file
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.checkpoint.writer import write_tensors
from ithaca.runtime.errors import UserError

SHARD_BYTES = 5_000_000_000
"""A model larger than this is written in several files, as Hugging Face does."""

_PARAMETER = "param."


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter to export: where it lies in the checkpoint, what it is called, its size."""

    layer: str
    key: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the files, how many tensors are in them, their bytes together."""

    files: tuple[Path, ...]
    num_tensors: int
    bytes: int


def export(
    found: Found,
    to: Path,
    names: Mapping[str, str] | None,
    config: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = SHARD_BYTES,
    disk: Disk | None = None,
) -> Exported:
    """Writes ``model.safetensors`` and ``config.json`` into the new folder ``to``.

    A model of more than ``shard_bytes`` becomes ``model-00001-of-0000N.safetensors`` and so on,
    with ``model.safetensors.index.json``. The folder appears whole or not at all. At most one
    shard and one layer are in memory at a time.

    Args:
        found: the checkpoint; its files are verified once more as they are read.
        to: must not exist, or be empty.
        names: ``<layer>.<parameter>`` to the name in the export; parameters that it leaves out
            are not written. None: all are written under their own names.
        config: what ``config.json`` says, besides ``torch_dtype``.
        dtype: of the floating-point weights.
        shard_bytes: the most that one file holds, unless a single weight is larger.
        disk: where the file operations go.

    Raises:
        UserError: ``to`` is not free, ``names`` does not fit the checkpoint, or the disk failed.
        DamagedError: the checkpoint changed since it was found.
    """
    disk = disk or Disk()
    weights = _weights(found.manifest, names, dtype)
    to = to.resolve()
    _check_free(to)
    partial = to.with_name(f".{to.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            disk.make_folder(partial)
            shards = _shards(weights, shard_bytes)
            files = _write_shards(found, partial, shards, dtype, disk)
            texts = {"config.json": {**config, "torch_dtype": str(dtype).removeprefix("torch.")}}
            if len(shards) > 1:
                texts["model.safetensors.index.json"] = _index(files)
            for name, content in texts.items():
                replace_file(partial / name, [_json(content)], disk)
            disk.rename(partial, to)
            disk.sync_folder(to.parent)
        except BaseException:
            with suppress(FileNotFoundError):
                disk.remove(partial)
            raise
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot export to {to}: {reason}. Nothing was left there.") from error
    written = tuple(to / name for name in (*files, *texts))
    return Exported(written, len(weights), sum(weight.size for weight in weights))


def _weights(
    manifest: Manifest, names: Mapping[str, str] | None, dtype: torch.dtype
) -> list[Weight]:
    """What to export, in the order of the layers; sizes as they will be on disk."""
    ours = {}
    for layer in manifest.layers:
        for tensor in layer.tensors:
            if tensor.name.startswith(_PARAMETER):
                name = f"{layer.name}.{tensor.name.removeprefix(_PARAMETER)}"
                own = getattr(torch, tensor.dtype)
                item = (dtype if own.is_floating_point else own).itemsize
                ours[name] = Weight(layer.name, tensor.name, name, item * math.prod(tensor.shape))
    if names is None:
        return list(ours.values())
    lacking = sorted(names.keys() - ours.keys())
    if lacking or len(set(names.values())) != len(names):
        what = f"no {', '.join(lacking[:5])}" if lacking else "two weights of one name"
        raise UserError(
            f"the names that the workload gives for an export do not fit the checkpoint: {what}. "
            "Export with the version of the workload that trained it."
        )
    return [
        Weight(weight.layer, weight.key, names[name], weight.size)
        for name, weight in ours.items()
        if name in names
    ]


def _check_free(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise UserError(f"cannot export to {to}: it is a file. Give a folder that is new or empty.")
    if to.is_dir() and any(to.iterdir()):
        raise UserError(f"cannot export to {to}: it is not empty. Give a new or empty folder.")


def _shards(weights: list[Weight], largest: int) -> list[list[Weight]]:
    shards: list[list[Weight]] = [[]]
    used = 0
    for weight in weights:
        if shards[-1] and used + weight.size > largest:
            shards.append([])
            used = 0
        shards[-1].append(weight)
        used += weight.size
    return shards


def _write_shards(
    found: Found, folder: Path, shards: list[list[Weight]], dtype: torch.dtype, disk: Disk
) -> dict[str, list[Weight]]:
    """Writes one file a shard; the files with what is in each."""
    tensors = _tensors(found, [weight for shard in shards for weight in shard], dtype)
    files = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        name = name if len(shards) > 1 else "model.safetensors"
        content = {weight.name: next(tensors) for weight in shard}
        # transformers refuses a file whose metadata does not name the framework.
        write_tensors(folder / name, content, {"format": "pt"}, disk)
        files[name] = shard
    return files


def _tensors(found: Found, weights: list[Weight], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """The tensors of ``weights`` in their order; each layer's file is read once."""
    layer, state = "", dict[str, torch.Tensor]()
    for weight in weights:
        if weight.layer != layer:
            layer = weight.layer
            state = read_layer(found.folder, found.manifest.layer(layer))
        tensor = state[weight.key]
        yield tensor.to(dtype) if tensor.is_floating_point() else tensor


def _index(files: Mapping[str, list[Weight]]) -> dict[str, Any]:
    total = sum(weight.size for shard in files.values() for weight in shard)
    where = {weight.name: name for name, shard in files.items() for weight in shard}
    return {"metadata": {"total_size": total}, "weight_map": where}


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
