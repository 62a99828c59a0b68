"""Structures of graphs, searched block by block and kept on disk under the hash of their inputs."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs, begins
from ithaca.workloads.csgnn.structure import Cells, Profile, ProfileShape, cycles, profile

SEARCH = 1
"""Raised with every change of the searches that changes a result."""
GRAPHS_IN_BLOCK = 4096
_DIGEST = 32


@dataclass(frozen=True, eq=False)
class Structure:
    """The profile of some graphs and their chordless cycles."""

    profile: Profile
    cells: Cells


@dataclass(frozen=True, eq=False)
class Block:
    """Some graphs, what to search them for, and the name of the result.

    Attributes:
        graphs: in one block.
        shape: of the profile; its ``cycle`` is also the longest cell.
    """

    graphs: Graphs
    shape: ProfileShape

    def name(self) -> str:
        """The hash of all that the result depends on."""
        found = sha256(f"{SEARCH} {self.shape}".encode())
        for part in (self.graphs.starts, self.graphs.edges, self.graphs.types):
            found.update(b"none" if part is None else part.numpy().tobytes())
            found.update(str(None if part is None else tuple(part.shape)).encode())
        return found.hexdigest()

    def search(self, threads: int = 1) -> Structure:
        """The result."""
        found = profile(self.graphs, self.shape, threads)
        return Structure(found, cycles(self.graphs, self.shape.cycle, self.shape.budget, threads))


def blocks(graphs: Graphs, shape: ProfileShape, size: int = GRAPHS_IN_BLOCK) -> Iterator[Block]:
    """The graphs in blocks of at most ``size``, in order."""
    for begin in range(0, graphs.count, size):
        chosen = torch.arange(begin, min(begin + size, graphs.count))
        yield Block(graphs.take(chosen), shape)


def encoded(structure: Structure) -> bytes:
    """The structure as bytes: arrays in numpy's format behind each other, and their SHA-256."""
    buffer = io.BytesIO()
    for tensor in _tensors(structure):
        np.lib.format.write_array(buffer, np.ascontiguousarray(tensor.numpy()), allow_pickle=False)
    content = buffer.getvalue()
    return content + sha256(content).digest()


def decoded(data: bytes, shape: ProfileShape) -> Structure | None:
    """What :func:`encoded` wrote; None if the bytes are not whole."""
    content, digest = data[:-_DIGEST], data[-_DIGEST:]
    if sha256(content).digest() != digest:
        return None
    buffer = io.BytesIO(content)
    arrays = []
    while buffer.tell() < len(content):
        arrays.append(torch.from_numpy(np.lib.format.read_array(buffer, allow_pickle=False)))
    return Structure(Profile(shape, *arrays[:5]), Cells(*arrays[5:]))


def _tensors(structure: Structure) -> list[Tensor]:
    parts = [(structure.profile, fields(Profile)[1:]), (structure.cells, fields(Cells))]
    return [getattr(part, field.name) for part, names in parts for field in names]


def path_of(block: Block, cache: Path) -> Path:
    """Where the result of ``block`` is kept."""
    return cache / f"{block.name()}.structure"


def stored(block: Block, cache: Path) -> Structure | None:
    """The result if it is there and whole."""
    path = path_of(block, cache)
    return decoded(path.read_bytes(), block.shape) if path.exists() else None


def ensure(block: Block, cache: Path) -> Path:
    """Makes sure that the result of ``block`` is kept; safe to call many times, and at once.

    A file appears under its name only when it is whole.
    """
    path = path_of(block, cache)
    if stored(block, cache) is None:
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f".{path.name}.{uuid.uuid4().hex}"
        part.write_bytes(encoded(block.search()))
        os.replace(part, path)
    return path


def structure_of(graphs: Graphs, shape: ProfileShape, cache: Path | None) -> Structure:
    """The structure of all graphs, out of ``cache`` as far as it is there, else searched."""
    found = []
    for block in blocks(graphs, shape):
        if cache is None:
            found.append(block.search())
            continue
        kept = stored(block, cache)
        if kept is None:
            ensure(block, cache)
            kept = stored(block, cache)
        assert kept is not None, "a structure that was just written is not whole"
        found.append(kept)
    return joined(found, graphs, shape)


def joined(parts: list[Structure], graphs: Graphs, shape: ProfileShape) -> Structure:
    """The structures of blocks as that of all graphs; each distinct profile is there once."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Block(graphs, shape).search()
    sizes = [len(part.profile.first) - 1 for part in parts]
    shifts = begins(torch.tensor(sizes)).tolist()
    table, number = torch.cat([p.profile.table for p in parts]).unique(dim=0, return_inverse=True)
    rows, row = number.split([len(p.profile.table) for p in parts]), []
    for part, known in zip(parts, rows, strict=True):
        row.append(known[part.profile.row.long()].int())
    profiles = [part.profile for part in parts]
    whole = replace(
        profiles[0],
        first=begins(torch.cat([p.first.diff() for p in profiles])),
        other=torch.cat([p.other + s for p, s in zip(profiles, shifts, strict=False)]),
        row=torch.cat(row),
        table=table,
        reach=torch.cat([p.reach for p in profiles]),
    )
    cells = [part.cells for part in parts]
    return Structure(
        whole,
        Cells(
            begins(torch.cat([c.first.diff() for c in cells])),
            torch.cat([c.vertex + s for c, s in zip(cells, shifts, strict=False)]),
            begins(torch.cat([c.owner.diff() for c in cells])),
            torch.cat([c.reach for c in cells]),
        ),
    )
