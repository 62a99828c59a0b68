"""Chordless cycles, induced paths and profiles, slow and plain, from their definitions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from itertools import combinations, pairwise

Edges = frozenset[tuple[int, int]]
Path = tuple[int, ...]


def simple(pairs: list[tuple[int, int]]) -> Edges:
    """The pairs as edges (u, v) with u < v."""
    return frozenset((min(p), max(p)) for p in pairs)


def joined(edges: Edges, u: int, v: int) -> bool:
    """Whether there is an edge between u and v."""
    return (min(u, v), max(u, v)) in edges


def simple_paths(size: int, edges: Edges, longest: int) -> Iterator[Path]:
    """All paths without a vertex twice of 1..longest edges, in both directions."""
    todo: list[Path] = [(v,) for v in range(size)]
    while todo:
        path = todo.pop()
        if len(path) > 1:
            yield path
        if len(path) <= longest:
            todo += [
                (*path, w) for w in range(size) if w not in path and joined(edges, path[-1], w)
            ]


def induced_paths(size: int, edges: Edges, longest: int) -> list[Path]:
    """Those of the simple paths with no edge but their own, from the smaller end."""
    return [
        path
        for path in simple_paths(size, edges, longest)
        if path[0] < path[-1]
        and sum(joined(edges, u, v) for u, v in combinations(path, 2)) == len(path) - 1
    ]


def chordless_cycles(size: int, edges: Edges, longest: int) -> list[Path]:
    """Cycles with no edge but their own, from the smallest vertex towards its smaller neighbour."""
    return [
        path
        for path in simple_paths(size, edges, longest - 1)
        if len(path) >= 3
        and path[0] == min(path)
        and path[1] < path[-1]
        and all(joined(edges, u, v) for u, v in pairwise((*path, path[0])))
        and sum(joined(edges, u, v) for u, v in combinations(path, 2)) == len(path)
    ]


def distances(size: int, edges: Edges, start: int) -> dict[int, int]:
    """Shortest-path distances from ``start`` of all vertices that it reaches."""
    found, queue = {start: 0}, deque([start])
    while queue:
        v = queue.popleft()
        for w in range(size):
            if w not in found and joined(edges, v, w):
                found[w] = found[v] + 1
                queue.append(w)
    return found


def profile(
    size: int, edges: Edges, path: int, cycle: int, hops: int
) -> dict[tuple[int, int], dict[str, int]]:
    """The counts of every ordered pair that has any or lies within ``hops``; zeros left out."""
    counts: dict[tuple[int, int], Counter[str]] = {}

    def at(v: int, u: int) -> Counter[str]:
        return counts.setdefault((v, u), Counter())

    for found in induced_paths(size, edges, path):
        for v, u in ((found[0], found[-1]), (found[-1], found[0])):
            at(v, u)[f"path{len(found) - 1}"] += 1
    for ring in chordless_cycles(size, edges, cycle):
        for i, v in enumerate(ring):
            for j, u in enumerate(ring):
                apart = min(abs(i - j), len(ring) - abs(i - j))
                at(v, u)[f"cycle{len(ring)}/{apart}"] += 1
    for v in range(size):
        far = distances(size, edges, v)
        for u, d in far.items():
            if d <= hops:
                around = [far[w] for w in range(size) if joined(edges, u, w) and far[w] <= hops]
                at(v, u)["beside0"] = around.count(d)
                at(v, u)["before0"] = around.count(d - 1)
        for u in range(size):
            if (v, u) in counts:
                d = far.get(u, hops + 1)
                at(v, u)["distance"] = d if d <= hops else hops + 1
    return {pair: {k: n for k, n in c.items() if n} for pair, c in counts.items()}
