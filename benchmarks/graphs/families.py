"""Families of graphs for counts of what is told apart: strongly regular ones, EXP, circulants."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ithaca.workloads.csgnn.graph6 import read_graph6
from ithaca.workloads.csgnn.graphs import Graphs

STRONGLY_REGULAR = {
    "sr16622": 2,
    "sr251256": 15,
    "sr261034": 10,
    "sr281264": 4,
    "sr291467": 41,
    "sr361446": 180,
    "sr401224": 28,
}
"""Families and how many graphs each has, no two of them isomorphic."""
EXP_PAIRS = 600


def read_family(folder: Path, name: str) -> Graphs:
    """The strongly regular graphs ``name`` out of ``folder``/sr.

    Raises:
        ValueError: the file is missing or has another number of graphs.
    """
    path = folder / "sr" / f"{name}.g6"
    if not path.exists():
        raise ValueError(f"{path} is missing; give the folder that has sr/, brec/ and exp.txt")
    graphs = read_graph6(path.read_text().splitlines())
    if graphs.count != STRONGLY_REGULAR[name]:
        raise ValueError(f"{path} has {graphs.count} graphs, not {STRONGLY_REGULAR[name]}")
    return graphs


def read_exp(folder: Path) -> Graphs:
    """The 1,200 graphs of EXP (Abboud et al., 2021) out of ``folder``/exp.txt; 2i and 2i + 1 are
    a pair.

    Raises:
        ValueError: the file is missing or cut.
    """
    path = folder / "exp.txt"
    if not path.exists():
        raise ValueError(f"{path} is missing; give the folder that has sr/, brec/ and exp.txt")
    numbers = np.array(path.read_text().split(), dtype=np.int64)
    graphs, at = [], 1
    while at + 1 < len(numbers):
        size, count = numbers[at : at + 2].tolist()
        edges = numbers[at + 2 : at + 2 + 2 * count].reshape(-1, 2)
        graphs.append((size, [(int(u), int(v)) for u, v in edges]))
        at += 2 + 2 * count
    if len(graphs) != int(numbers[0]) or at != len(numbers) or len(graphs) != 2 * EXP_PAIRS:
        raise ValueError(f"{path} is cut: it announces {numbers[0]} graphs and has {len(graphs)}")
    return Graphs.of(graphs)
