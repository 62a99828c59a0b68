"""What the profile tells apart, exactly: numbers that are known, and copies never."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch

from ithaca.workloads.csgnn.generated import csl
from ithaca.workloads.csgnn.graphs import Graphs, relabelled
from ithaca.workloads.csgnn.refine import signatures
from ithaca.workloads.csgnn.structure import ALL_HOPS, Profile, ProfileShape, profile

NO_HOPS = 0


def of_networkx(*graphs: nx.Graph) -> Graphs:
    """Graphs of networkx."""
    plain = [nx.convert_node_labels_to_integers(graph) for graph in graphs]
    return Graphs.of([(len(graph), list(graph.edges)) for graph in plain])


def classes(graphs: Graphs, shape: ProfileShape) -> int:
    """How many of the graphs are told apart."""
    return len(np.unique(signatures(graphs, profile(graphs, shape))))


def atlas() -> Graphs:
    """All 1,253 graphs of at most 7 vertices."""
    return of_networkx(*nx.graph_atlas_g())


def rook() -> nx.Graph:
    """Rook's moves on a board of 4 by 4."""
    return nx.line_graph(nx.complete_bipartite_graph(4, 4))


def shrikhande() -> nx.Graph:
    """The other strongly regular graph with the parameters (16, 6, 2, 2)."""
    steps = [(0, 1), (1, 0), (1, 1)]
    points = [(x, y) for x in range(4) for y in range(4)]
    moves = [((x, y), ((x + a) % 4, (y + b) % 4)) for x, y in points for a, b in steps]
    return nx.Graph(moves)


def test_every_graph_of_the_atlas_is_told_apart() -> None:
    assert classes(atlas(), ProfileShape(5, 7)) == 1253


def test_the_atlas_is_not_told_apart_by_neighbours_alone() -> None:
    """Control: the test of Weisfeiler and Leman, over neighbours without any count."""
    graphs = atlas()
    found = profile(graphs, ProfileShape(0, 0, 1)).columns([0])
    assert len(np.unique(signatures(graphs, found))) == 1227


@pytest.mark.parametrize(
    ("shape", "told_apart"),
    [
        (ProfileShape(0, 6, NO_HOPS), 6),
        (ProfileShape(0, 8, NO_HOPS), 10),
        (ProfileShape(5, 0, NO_HOPS), 10),
        (ProfileShape(6, 10), 10),
        (ProfileShape(0, 0, 1), 2),  # one of them has triangles
    ],
)
def test_circulants(shape: ProfileShape, told_apart: int) -> None:
    """CSL; of the 150 graphs 15 are copies of each."""
    assert classes(csl(0).graphs, shape) == told_apart


@pytest.mark.parametrize(("cycle", "told_apart"), [(3, 1), (4, 2), (6, 2)])
def test_a_pair_beyond_three_dimensional_refinement(cycle: int, told_apart: int) -> None:
    both = of_networkx(rook(), shrikhande())
    assert classes(both, ProfileShape(0, cycle, ALL_HOPS)) == told_apart


def test_chordless_cycles_of_the_pair() -> None:
    both = of_networkx(rook(), shrikhande())
    found = profile(both, ProfileShape(0, 8))
    names = found.shape.names()
    rows = found.table[found.row.long()]
    for graph, counts in enumerate(
        [{3: 32, 4: 36, 5: 0, 6: 96, 8: 72}, {3: 32, 4: 12, 5: 96, 6: 64, 8: 36}]
    ):
        pairs = found.first[both.starts]
        mine = rows[pairs[graph] : pairs[graph + 1]].sum(0)
        # Each cycle of length l is counted at each of its l vertices.
        for length, count in counts.items():
            assert mine[names.index(f"cycle{length}/0")] == length * count


def test_copies_are_never_told_apart() -> None:
    plain = atlas()
    for seed in range(3):
        other = relabelled(plain, torch.Generator().manual_seed(seed))
        ours, theirs = (
            signatures(graphs, profile(graphs, ProfileShape(5, 7))) for graphs in (plain, other)
        )
        assert (ours == theirs).all()


def off_by_one(found: Profile, pair: int, column: int) -> Profile:
    """The profile with one count of one pair raised."""
    rows = found.table[found.row.long()].clone()
    rows[pair, column] += 1
    table, row = rows.unique(dim=0, return_inverse=True)
    return replace(found, table=table, row=row.int())


def test_one_count_too_many_tells_copies_apart() -> None:
    """Control: what the test of copies would miss if counts were not all used."""
    graphs = of_networkx(rook(), rook())
    found = profile(graphs, ProfileShape(3, 4))
    assert len(np.unique(signatures(graphs, found))) == 1
    for column in range(found.table.shape[1]):
        changed = off_by_one(found, 3, column)
        assert len(np.unique(signatures(graphs, changed))) == 2


def test_colours_to_begin_with_count() -> None:
    graphs = of_networkx(nx.path_graph(3), nx.path_graph(3))
    found = profile(graphs, ProfileShape(2, 0))
    ends, middle = np.array([1, 0, 0, 0, 0, 1]), np.array([1, 0, 0, 0, 1, 0])
    assert len(np.unique(signatures(graphs, found, ends.astype(np.uint64)))) == 1
    assert len(np.unique(signatures(graphs, found, middle.astype(np.uint64)))) == 2


def test_a_graph_that_was_cut_differs_from_one_that_was_not() -> None:
    graphs = of_networkx(rook(), rook())
    found = profile(graphs, ProfileShape(3, 4))
    reach = found.reach.clone()
    reach[1, 0] = 2
    assert len(np.unique(signatures(graphs, replace(found, reach=reach)))) == 2
