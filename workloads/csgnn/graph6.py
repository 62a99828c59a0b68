"""The graph6 format: a graph in one line of printable characters (McKay, nauty's formats.txt)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ithaca.workloads.csgnn.graphs import Graphs, begins

_HEADER = b">>graph6<<"


def _number(data: bytes, text: bytes) -> tuple[int, int]:
    """The number of vertices at the start of ``data``, and how many bytes tell it."""
    if data[0] != 63:
        return data[0], 1
    width = 3 if data[1] != 63 else 6
    begin = 1 if width == 3 else 2
    digits = data[begin : begin + width]
    if len(digits) < width:
        raise ValueError(f"the graph6 line {text!r} ends within its number of vertices")
    return int(sum(d << (6 * (width - 1 - i)) for i, d in enumerate(digits))), begin + width


def _edges(text: bytes) -> tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    line = text.strip().removeprefix(_HEADER)
    if not line or any(not 63 <= byte <= 126 for byte in line):
        raise ValueError(
            f"{text!r} is no graph6 line; one has only the characters '?' to '~' "
            "(sparse6 and digraph6 are not read)"
        )
    data = bytes(byte - 63 for byte in line)
    size, begin = _number(data, text)
    bits = np.unpackbits(np.frombuffer(data[begin:], np.uint8)[:, None], axis=1)[:, 2:].ravel()
    wanted = size * (size - 1) // 2
    if not wanted <= len(bits) < wanted + 6:
        raise ValueError(
            f"the graph6 line {text!r} has {len(bits)} bits, but {size} vertices need {wanted}"
        )
    column, row = np.tril_indices(size, -1)  # (0,1), (0,2), (1,2), (0,3), ...
    there = bits[:wanted].astype(bool)
    return size, np.stack([row[there], column[there]]).astype(np.int64)


def read_graph6(lines: Iterable[str | bytes]) -> Graphs:
    """The graphs of the lines; empty lines are passed over.

    Raises:
        ValueError: a line is not graph6.
    """
    sizes, edges, start = [], [], 0
    for line in lines:
        text = line.encode() if isinstance(line, str) else bytes(line)
        if not text.strip():
            continue
        size, pairs = _edges(text)
        edges.append(pairs + start)
        sizes.append(size)
        start += size
    joined = np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), np.int64)
    return Graphs(begins(torch.tensor(sizes, dtype=torch.int64)), torch.from_numpy(joined))
