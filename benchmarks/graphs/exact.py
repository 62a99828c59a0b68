"""What the profile tells apart, exactly: colour refinement, no training, no rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.graphs.brec import CATEGORIES, Pair, read_brec
from benchmarks.graphs.families import EXP_PAIRS, STRONGLY_REGULAR, read_exp, read_family
from ithaca.workloads.csgnn.generated import csl
from ithaca.workloads.csgnn.graphs import Graphs, relabelled, together
from ithaca.workloads.csgnn.refine import signatures
from ithaca.workloads.csgnn.structure import Profile, ProfileShape, profile

WIDEST = ProfileShape(path=6, cycle=10)
DEEPEST = ProfileShape(path=20, cycle=10)
"""Where the budget ends before, a graph is searched for shorter ones."""


@dataclass(frozen=True)
class Variant:
    """Which columns of the widest profile are used.

    Attributes:
        path, cycle: the longest lengths.
        distance: whether distances are, for all pairs of connected vertices.
        neighbours: whether the counts of neighbours beside and before are.
    """

    path: int
    cycle: int
    distance: bool
    neighbours: bool = False

    def columns(self) -> list[int]:
        """Their numbers."""
        return [i for i, name in enumerate(WIDEST.names()) if self._has(name)]

    def _has(self, name: str) -> bool:
        if name == "distance":
            return self.distance
        if name.startswith("path"):
            return int(name[4:]) <= self.path
        if name.startswith("cycle"):
            return int(name[5:].split("/")[0]) <= self.cycle
        return self.neighbours


VARIANTS = {
    "distances": (Variant(0, 0, True), (16, 14, 0, 41, 12, 0, 0)),
    "cycles <= 4": (Variant(0, 4, False), (60, 50, 50, 91, 0, 0, 0)),
    "cycles <= 6": (Variant(0, 6, False), (60, 50, 50, 93, 0, 20, 17)),
    "cycles <= 8": (Variant(0, 8, False), (60, 50, 50, 96, 0, 20, 19)),
    "cycles <= 10, distances": (Variant(0, 10, True), (60, 50, 50, 97, 17, 20, 20)),
    "paths <= 4, distances": (Variant(4, 0, True), (60, 49, 50, 99, 12, 20, 0)),
    "paths <= 6, distances": (Variant(6, 0, True), (60, 49, 50, 100, 17, 20, 17)),
    "cycles <= 6, distances": (Variant(0, 6, True), (60, 50, 50, 93, 12, 20, 17)),
    "paths <= 6, cycles <= 8": (Variant(6, 8, True, True), (60, 50, 50, 100, 19, 20, 19)),
    "paths <= 6, cycles <= 10": (Variant(6, 10, True, True), (60, 50, 50, 100, 19, 20, 20)),
}
"""Variants, and how many pairs of each category of BREC an independent program tells apart."""


def reduced(found: Profile, variant: Variant) -> Profile:
    """The profile with the variant's columns; pairs without a count are left out."""
    kept = found.columns(variant.columns())
    if variant.distance:
        return kept
    there = (kept.table != 0).any(1)[kept.row.long()]
    before = torch.cat([torch.zeros(1, dtype=torch.int64), there.long().cumsum(0)])
    return replace(kept, first=before[kept.first], other=kept.other[there], row=kept.row[there])


def told_apart(graphs: Graphs, found: Profile) -> list[bool]:
    """Whether graphs 2i and 2i + 1 differ, for each i."""
    both = signatures(graphs, found).reshape(-1, 2)
    return (both[:, 0] != both[:, 1]).tolist()


def by_category(pairs: list[Pair], apart: list[bool]) -> tuple[int, ...]:
    """How many are told apart in each category."""
    return tuple(
        sum(yes for pair, yes in zip(pairs, apart, strict=True) if pair.category == category)
        for category in CATEGORIES
    )


def families(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, classes found and classes there are, of every family."""
    for name, count in STRONGLY_REGULAR.items():
        graphs = read_family(folder, name)
        found = profile(graphs, ProfileShape(0, 6)).whole()
        yield name, len(np.unique(signatures(graphs, found))), count
    exp = read_exp(folder)
    yield "EXP", sum(told_apart(exp, profile(exp, ProfileShape(0, 6)).whole())), EXP_PAIRS
    circulants = csl(0).graphs
    found = profile(circulants, WIDEST).whole()
    yield "CSL", len(np.unique(signatures(circulants, found))), 10


def brec(folder: Path) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Variant, pairs told apart by category, and how many are known to be."""
    pairs = read_brec(folder / "brec")
    graphs = together([pair.graphs for pair in pairs])
    found = profile(graphs, WIDEST).whole()
    for name, (variant, known) in VARIANTS.items():
        yield name, by_category(pairs, told_apart(graphs, reduced(found, variant))), known


def adaptive(pairs: list[Pair], shape: ProfileShape = DEEPEST) -> Iterator[tuple[Pair, bool, bool]]:
    """Each pair, whether the widest profile tells it apart, and whether paths as long as the budget
    allows do.

    How long they are depends on a graph alone, not on its labels, so this is a setting like any
    other. More columns only refine: pairs that are told apart already are not searched again.
    """
    for pair in pairs:
        apart = told_apart(pair.graphs, profile(pair.graphs, WIDEST).whole())[0]
        yield pair, apart, apart or told_apart(pair.graphs, profile(pair.graphs, shape))[0]


def copies(folder: Path, seed: int) -> Iterator[tuple[str, int, int]]:
    """Name, graphs, and those that a relabelled copy of is told apart from: none, if all is well.

    Copies are compared by all of the profile, not only by its refinement: tables, rows of each
    vertex and reach.
    """
    sets = {name: read_family(folder, name) for name in STRONGLY_REGULAR}
    sets["EXP"] = read_exp(folder)
    sets["BREC"] = together([pair.graphs for pair in read_brec(folder / "brec")])
    generator = torch.Generator().manual_seed(seed)
    for name, graphs in sets.items():
        other = relabelled(graphs, generator)
        one, two = profile(graphs, WIDEST), profile(other, WIDEST)
        assert torch.equal(one.table, two.table)
        assert torch.equal(one.reach, two.reach)
        differ = signatures(graphs, one) != signatures(other, two)
        yield name, graphs.count, int(differ.sum())
