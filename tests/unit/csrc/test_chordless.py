"""The searches in C++ against networkx, against plain references, and against themselves."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import networkx as nx  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.workloads.csgnn.graphs import Graphs, relabelled, together
from ithaca.workloads.csgnn.structure import (
    Cells,
    Profile,
    ProfileShape,
    cycles,
    paths,
    profile,
)
from tests.unit.csrc import chordless_reference as reference

WIDTHS = [0, 60, 120, 250, 510]
"""Isolated vertices that a graph gets, so that each of the five searches is used."""


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> tuple[int, reference.Edges]:
    """A small graph of any density."""
    size = draw(st.integers(0, most))
    pairs = [(u, v) for v in range(size) for u in range(v)]
    return size, frozenset(draw(st.sets(st.sampled_from(pairs))) if pairs else set())


def batch(size: int, edges: reference.Edges, more: int = 0) -> Graphs:
    """One graph, with ``more`` isolated vertices behind it."""
    return Graphs.of([(size + more, sorted(edges))])


def lists(cells: Cells) -> list[tuple[int, ...]]:
    """The cells, sorted."""
    ends = cells.first.tolist()
    return sorted(tuple(cells.vertex[a:b].tolist()) for a, b in pairwise(ends))


def counts(found: Profile) -> dict[tuple[int, int], dict[str, int]]:
    """The profile by pair and column, zeros left out."""
    names = found.shape.names()
    rows = [{k: n for k, n in zip(names, row, strict=True) if n} for row in found.table.tolist()]
    pairs = zip(found.first_vertices().tolist(), found.other.tolist(), strict=True)
    return {pair: rows[row] for pair, row in zip(pairs, found.row.tolist(), strict=True)}


@pytest.mark.parametrize("more", WIDTHS)
@given(graphs(), st.integers(0, 10))
@settings(max_examples=15, deadline=None)
def test_cells_are_those_of_the_reference(
    more: int, graph: tuple[int, reference.Edges], longest: int
) -> None:
    size, edges = graph
    small = batch(size, edges, more)
    assert lists(cycles(small, longest)) == sorted(reference.chordless_cycles(size, edges, longest))
    assert lists(paths(small, longest)) == sorted(reference.induced_paths(size, edges, longest))


@pytest.mark.parametrize("more", [0, 510])
@given(graphs(7), st.integers(0, 6), st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=15, deadline=None)
def test_profiles_are_those_of_the_reference(
    more: int, graph: tuple[int, reference.Edges], path: int, cycle: int, hops: int
) -> None:
    size, edges = graph
    found = counts(profile(batch(size, edges, more), ProfileShape(path, cycle, hops)))
    inside = {pair: row for pair, row in found.items() if pair[0] < size}
    assert inside == reference.profile(size, edges, path, cycle, hops)


def random_graph(seed: int) -> nx.Graph:
    """A sparse, a dense or a regular graph of 10 to 29 vertices."""
    size = 10 + seed % 20
    if seed % 3 == 0:
        return nx.random_regular_graph(4, size, seed)
    return nx.gnm_random_graph(size, size * (2 + seed % 3), seed)


def of_networkx(graph: nx.Graph) -> Graphs:
    """A graph of networkx with vertices 0, 1, ..."""
    return Graphs.of([(len(graph), list(graph.edges))])


@pytest.mark.parametrize("longest", [4, 6, 9])
def test_cycles_are_those_of_networkx(longest: int) -> None:
    for seed in range(24):
        graph = random_graph(seed)
        theirs = Counter(frozenset(c) for c in nx.chordless_cycles(graph, longest))
        ours = Counter(frozenset(c) for c in lists(cycles(of_networkx(graph), longest)))
        assert ours == theirs


@pytest.mark.parametrize("name", ["chordless_cycles", "induced_paths"])
def test_a_reference_that_is_off_by_one_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right = getattr(reference, name)
    monkeypatch.setattr(reference, name, lambda *given: right(*given)[1:])
    edges = reference.simple([(0, 1), (1, 2), (2, 3), (0, 3), (0, 2)])
    with pytest.raises(AssertionError):
        assert counts(profile(batch(4, edges), ProfileShape(3, 4, 3))) == reference.profile(
            4, edges, 3, 4, 3
        )


def mixed() -> Graphs:
    """Forty graphs of all kinds, an empty one and one without edges among them."""
    some = [of_networkx(random_graph(seed)) for seed in range(38)]
    return together([*some[:20], Graphs.of([(0, []), (3, [])]), *some[20:]])


def test_neither_threads_nor_company_change_anything() -> None:
    many, shape = mixed(), ProfileShape(4, 8)
    one, four = profile(many, shape), profile(many, shape, threads=4)
    for a, b in zip(list(vars(one).values())[1:], list(vars(four).values())[1:], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(
        vars(cycles(many, 8)).values(), vars(cycles(many, 8, threads=4)).values(), strict=True
    ):
        assert torch.equal(a, b)
    for number in (0, 20, 21, 39):
        chosen = torch.tensor([number])
        alone = profile(many.take(chosen), shape)
        assert counts(one.take(many.starts, chosen)) == counts(alone)
        cut = cycles(many, 8).take(many.starts, chosen)
        assert lists(cut) == lists(cycles(many.take(chosen), 8))


@given(graphs(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_labels_do_not_matter(graph: tuple[int, reference.Edges], seed: int) -> None:
    plain = batch(*graph)
    other = relabelled(plain, torch.Generator().manual_seed(seed))
    one, two = (profile(g, ProfileShape(4, 8, budget=60)) for g in (plain, other))
    assert torch.equal(one.table, two.table)
    assert torch.equal(one.reach, two.reach)
    assert torch.equal(one.row.sort().values, two.row.sort().values)


def test_a_graph_too_dense_is_cut_by_numbers_that_depend_on_it_alone() -> None:
    wanted = ProfileShape(6, 10, budget=2000)
    for seed in range(12):
        graph = of_networkx(random_graph(seed))
        whole = cycles(graph, 10)
        reach = profile(graph, wanted).reach[0].tolist()
        count = 2 * len(lists(paths(graph, reach[0])))
        assert reach[0] == 6 or count <= 2000 < 2 * len(lists(paths(graph, reach[0] + 1)))
        limited = cycles(graph, 10, budget=2000)
        assert limited.reach.item() == reach[1]
        assert lists(limited) == [c for c in lists(whole) if len(c) <= reach[1]]
        padded = Graphs.of([(600, graph.edges.t().tolist())])
        assert profile(padded, wanted).reach[0].tolist() == reach


@pytest.mark.parametrize("more", [0, 60])
def test_a_graph_is_cut_at_the_very_path_that_passes_the_budget(more: int) -> None:
    """Bounds that answer without a search never say that more fits. The star is where the one by
    sizes is exact: a bound that is less by one would let its 12 paths into a budget of 11."""
    star = nx.star_graph(3)
    others = [nx.complete_multipartite_graph(1, 3, 3), nx.path_graph(6)]
    for graph in (star, *others, *(random_graph(seed) for seed in range(6))):
        one = Graphs.of([(len(graph) + more, list(graph.edges))])
        known = [2 * len(lists(paths(one, length))) for length in range(1, 7)]
        budgets = {count + by for count in known for by in (-1, 0)} - {-1, 0}
        for budget in sorted(budgets):
            fits = max(n for n in range(7) if n == 0 or known[n - 1] <= budget)
            found = profile(one, ProfileShape(6, 0, budget=budget)).reach[0].tolist()
            assert found == [fits, 0]


def test_what_was_cut_is_reported_and_can_be_refused() -> None:
    complete = [(u, v) for v in range(12) for u in range(v)]
    both = Graphs.of([(3, [(0, 1)]), (12, complete)])
    found = profile(both, ProfileShape(2, 4, budget=100))
    assert found.shortened().tolist() == [1]
    assert found.reach.tolist() == [[2, 4], [0, 0]]
    with pytest.raises(ValueError, match=r"1 of 2 graphs are too dense.*number 1: it allows paths"):
        found.whole()
    assert profile(both, ProfileShape(2, 4)).whole().shortened().tolist() == []


def test_a_large_sparse_graph_is_searched() -> None:
    size = 100_000
    ring = [(v, v + 1) for v in range(size - 1)] + [(v, v + 5) for v in range(0, size - 5, 10)]
    found = profile(Graphs.of([(size, ring)]), ProfileShape(3, 8, 3))
    assert len(found.first) == size + 1
    assert len(lists(cycles(Graphs.of([(size, ring)]), 8))) == size // 10
    assert len(found.table) < 200


def square(**changes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Starts and edges of a ring of four, with changes."""
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    return changes.get("starts", torch.tensor([0, 4])), changes.get("edges", edges)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": [[0, 1], [1, 1]]}, "vertex 1 has an edge to itself"),
        ({"edges": [[0, 1, 1], [1, 2, 0]]}, "edge 0-1 is there twice"),
        ({"edges": [[0], [4]]}, "edge 0-4 leaves the 4 vertices"),
        ({"edges": [[-1], [2]]}, "edge -1-2 leaves"),
        ({"starts": [0, 2, 4]}, "edge 1-2 joins two graphs"),
        ({"starts": [0, 5, 4]}, "must not fall"),
        ({"starts": [1, 4]}, "must begin with 0"),
        ({"starts": []}, "it is empty"),
        ({"edges": [[0, 1]]}, "must have two rows, not 1"),
    ],
)
def test_bad_graphs_are_named(changes: dict[str, list[int]], message: str) -> None:
    given = {name: torch.tensor(value, dtype=torch.int64) for name, value in changes.items()}
    starts, edges = square(**given)
    with pytest.raises(ValueError, match=message):
        profile(Graphs(starts, edges), ProfileShape())
    for search in (cycles, paths):
        with pytest.raises(ValueError, match=message):
            search(Graphs(starts, edges), 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (ProfileShape(path=64), "longest length must be 0..63, not 64"),
        (ProfileShape(hops=-1), "hops must be"),
        (ProfileShape(budget=2**31), "budget must be"),
        (ProfileShape(edge_types=0), "edge_types must be 1..256"),
    ],
)
def test_bad_shapes_are_named(shape: ProfileShape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(Graphs(*square()), shape)


def test_types_of_edges_are_told_apart() -> None:
    starts, edges = square()
    typed = Graphs(starts, edges, torch.tensor([0, 1, 0, 1]))
    found = counts(profile(typed, ProfileShape(2, 4, 2, edge_types=2)))
    assert found[0, 1]["before0"] == 1
    assert found[0, 3]["before1"] == 1
    assert found[0, 2] == {"distance": 2, "path2": 2, "cycle4/2": 1, "before0": 1, "before1": 1}
    with pytest.raises(ValueError, match="the type 1, but there are only 1 edge types"):
        profile(typed, ProfileShape(2, 4, 2))
    with pytest.raises(ValueError, match="3 types for 4 edges"):
        profile(Graphs(starts, edges, torch.tensor([0, 1, 0])), ProfileShape(edge_types=2))


def test_every_relabelling_of_a_small_graph_has_the_same_table() -> None:
    edges = reference.simple([(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (1, 3)])
    tables = set()
    for new in permutations(range(5)):
        moved = reference.simple([(new[u], new[v]) for u, v in edges])
        tables.add(str(profile(batch(5, moved), ProfileShape(4, 5)).table.tolist()))
    assert len(tables) == 1
