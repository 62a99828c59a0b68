"""Colour refinement over profiles: what the profile form can tell apart at all.

Two vertices keep one colour as long as the multisets {(profile(v, u), colour(u))} are equal: the
generalised-distance Weisfeiler-Leman test. Colours are hashes of 64 bits, so a collision can hide a
difference and never make one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.structure import Profile

Colours = NDArray[np.uint64]


def _mixed(values: Colours) -> Colours:
    """A 64-bit hash of each value: the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _row_hashes(table: NDArray[np.int32]) -> Colours:
    """A hash of each row, [rows]; depends on the numbers in it alone."""
    hashes = np.zeros(len(table), np.uint64)
    for column in table.T:
        hashes = _mixed(hashes ^ _mixed(column.astype(np.int64).view(np.uint64)))
    return hashes


def _sums(values: Colours, first: NDArray[np.int64]) -> Colours:
    """The sum of each segment, modulo 2^64: a hash of the multiset of its (mixed) values."""
    before = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=before[1:])
    return before[first[1:]] - before[first[:-1]]


def refine(graphs: Graphs, found: Profile, initial: Colours | None = None) -> Colours:
    """The stable colour of each vertex, uint64 [vertices]; comparable between graphs of one call.

    Refines until no further colour appears among all vertices.

    Args:
        graphs: the graphs.
        found: their profile.
        initial: colours to begin with, [vertices]; one colour if left out.
    """
    first, other = found.first.numpy(), found.other.numpy()
    pairs = _row_hashes(found.table.numpy())[found.row.numpy()]
    reach = _row_hashes(found.reach.numpy())[graphs.owners().numpy()]
    start = np.zeros(graphs.vertices, np.uint64) if initial is None else _mixed(initial)
    colours = _mixed(start ^ reach)
    count = 0
    while (now := len(np.unique(colours))) > count:
        count = now
        gathered = _sums(_mixed(pairs ^ _mixed(colours)[other]), first)
        colours = _mixed(_mixed(colours) ^ gathered)
    return colours


def signatures(graphs: Graphs, found: Profile, initial: Colours | None = None) -> Colours:
    """A hash of each graph, uint64 [graphs]: of the multiset of its vertices' stable colours."""
    colours = refine(graphs, found, initial)
    return _mixed(_sums(_mixed(colours), graphs.starts.numpy()) ^ _mixed(_sizes(graphs)))


def _sizes(graphs: Graphs) -> Colours:
    return graphs.sizes.numpy().astype(np.uint64)
