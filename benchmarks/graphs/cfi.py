"""Pairs by the construction of Cai, Fuerer and Immerman (1992), over base graphs of our own."""

from __future__ import annotations

from itertools import combinations

from ithaca.workloads.csgnn.graphs import Graphs

Pairs = list[tuple[int, int]]


def _ring(size: int, chords: Pairs) -> Pairs:
    return [(v, (v + 1) % size) for v in range(size)] + chords


BASES: dict[str, Pairs] = {
    "triangle": _ring(3, []),
    "diamond": _ring(4, [(0, 2)]),
    "square with a tail": [*_ring(4, []), (0, 4)],
    "house": _ring(5, [(0, 2)]),
    "ring of 5": _ring(5, []),
    "two triangles": [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4)],
    "ring of 6, one chord": _ring(6, [(0, 3)]),
    "ring of 6, two chords": _ring(6, [(0, 2), (3, 5)]),
    "complete graph of 4": _ring(4, [(0, 2), (1, 3)]),
    "prism": [*_ring(3, []), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)],
}


def _built(edges: Pairs, twisted: bool) -> tuple[int, Pairs]:
    """The graph over a base; with ``twisted`` one edge of the base is crossed.

    Each end of a base edge becomes two vertices, each base vertex one for every even set of its
    edges.
    """
    names: dict[tuple[object, ...], int] = {}

    def number(*name: object) -> int:
        return names.setdefault(name, len(names))

    built: Pairs = []
    for v in sorted({end for edge in edges for end in edge}):
        around = [e for e, ends in enumerate(edges) if v in ends]
        for size in range(0, len(around) + 1, 2):
            for chosen in combinations(around, size):
                middle = number("middle", v, chosen)
                built += [(middle, number("end", v, e, e in chosen)) for e in around]
    for e, (u, v) in enumerate(edges):
        for side in (False, True):
            other = side != (twisted and e == 0)
            built.append((number("end", u, e, side), number("end", v, e, other)))
    return len(names), built


def cfi_pair(name: str) -> Graphs:
    """The plain and the twisted graph over one of ``BASES``: never isomorphic."""
    return Graphs.of([_built(BASES[name], twisted) for twisted in (False, True)])
