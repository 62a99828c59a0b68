"""The BREC pairs (Wang and Zhang, "An Empirical Study of Realized GNN Expressiveness", 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ithaca.workloads.csgnn.graph6 import read_graph6
from ithaca.workloads.csgnn.graphs import Graphs

CATEGORIES = {
    "Basic": ("basic", 60),
    "Regular": ("regular", 50),
    "Strongly regular": ("str", 50),
    "Extension": ("extension", 100),
    "CFI": ("cfi", 100),
    "4-vertex condition": ("4vtx", 20),
    "Distance regular": ("dr", 20),
}
"""File and number of pairs of each category, in the order of the pairs' ids."""
PAIRS = sum(count for _, count in CATEGORIES.values())


@dataclass(frozen=True, eq=False)
class Pair:
    """Two graphs that are not isomorphic.

    Attributes:
        number: 0..399, the id of the published data.
        category: one of ``CATEGORIES``.
        graphs: the two.
    """

    number: int
    category: str
    graphs: Graphs


def category_of(number: int) -> str:
    """The category of the pair with this id."""
    for name, (_, count) in CATEGORIES.items():
        if number < count:
            return name
        number -= count
    raise ValueError(f"BREC has the pairs 0..{PAIRS - 1}")


def read_brec(folder: Path) -> list[Pair]:
    """All 400 pairs out of ``folder``, which has the published .npy files.

    Raises:
        ValueError: a file is missing or has another number of graphs.
    """
    pairs: list[Pair] = []
    for category, (name, count) in CATEGORIES.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            raise ValueError(f"{path} is missing; give the folder with BREC's raw .npy files")
        lines = np.load(path, allow_pickle=False).ravel().tolist()
        if len(lines) != 2 * count:
            raise ValueError(f"{path} has {len(lines)} graphs, not {2 * count}")
        graphs = read_graph6(lines)
        for i in range(count):
            both = graphs.take(torch.tensor([2 * i, 2 * i + 1]))
            pairs.append(Pair(len(pairs), category, both))
    return pairs
