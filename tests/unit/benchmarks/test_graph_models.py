"""The models of the comparison on molecules: each sees what it should, and no labels."""

from __future__ import annotations

from pathlib import Path

import networkx as nx  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor, nn

from benchmarks.graphs.models.batch import flat_batch
from benchmarks.graphs.models.cin import cell_batch
from benchmarks.graphs.models.contestants import CONTESTANTS, Contestant, fitted
from benchmarks.graphs.models.gps import return_probabilities
from benchmarks.graphs.models.hops import MOST, hops_of
from benchmarks.graphs.models.parts import parameters
from benchmarks.graphs.models.ppgn import matrices, pair_batch, products
from benchmarks.graphs.training import Course, Training
from benchmarks.graphs.zinc import COLUMNS, KEY, RATES, Cell, next_cell, table
from benchmarks.recovery_study.sheet import Sheet
from ithaca.workloads.csgnn.dataset import GraphDataset, Task
from ithaca.workloads.csgnn.generated import random_graph
from ithaca.workloads.csgnn.graphs import Graphs, relabelled
from ithaca.workloads.csgnn.structure import cycles

ATOMS, BONDS = 27, 4
Given = list[tuple[int, list[tuple[int, int]]]]


def dataset(given: Given, plain: bool = False) -> GraphDataset:
    """The graphs with types of vertices and edges that depend on their degrees alone, so that they
    move with labels; or without types."""
    graphs = Graphs.of(given)
    degrees = torch.bincount(graphs.edges.flatten(), minlength=graphs.vertices)
    types = torch.zeros_like(degrees) if plain else degrees % 5
    sums = degrees[graphs.edges].sum(0)
    kinds = torch.zeros_like(sums) if plain else sums % BONDS
    everything = torch.arange(graphs.count)
    return GraphDataset(
        Graphs(graphs.starts, graphs.edges, kinds), types, None,
        torch.randn(graphs.count, 1, generator=torch.Generator().manual_seed(0)),
        Task.ABSOLUTE, "graph", everything, everything[:4], everything[4:8],
    )  # fmt: skip


def random_data(count: int) -> GraphDataset:
    """Graphs with cycles, of 5 to 12 vertices."""
    made: Given = []
    for number in range(count):
        size, edges = random_graph(number, 12)
        made.append((size, sorted(edges)))
    return dataset(made)


def moved(data: GraphDataset) -> GraphDataset:
    """The same graphs with other labels."""
    new = relabelled(data.graphs, torch.Generator().manual_seed(3))
    copy = dataset([(0, [])])
    degrees = torch.bincount(new.edges.flatten(), minlength=new.vertices)
    return GraphDataset(**{**vars(copy), "graphs": new, "vertex_types": degrees % 5,
                           "targets": data.targets})  # fmt: skip


def predictions(contestant: Contestant, data: GraphDataset, parts: list[Tensor]) -> Tensor:
    """Of an untrained model whose normalisations have seen something, in evaluation."""
    torch.manual_seed(1)
    model = contestant.build(32, ATOMS, data.edge_types)
    batches = contestant.batches(data)
    with torch.no_grad():
        model(batches(torch.arange(data.graphs.count)))
        model.eval()
        return torch.cat([model(batches(part)) for part in parts])


@pytest.mark.parametrize("name", CONTESTANTS)
def test_labels_and_neighbours_in_a_batch_change_nothing(name: str) -> None:
    data = random_data(10)
    together, order = [torch.arange(10)], torch.tensor([3, 0, 9, 1, 8, 2, 7, 4, 6, 5])
    found = predictions(CONTESTANTS[name], data, together)
    assert found.std() > 1e-3
    copies = predictions(CONTESTANTS[name], moved(data), together)
    shuffled = predictions(CONTESTANTS[name], data, [order[:4], order[4:]])
    torch.testing.assert_close(copies, found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shuffled, found[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_types_and_edges_are_seen(name: str) -> None:
    """Control of the test before: what is not a relabelling is not without effect."""
    data = random_data(10)
    found = predictions(CONTESTANTS[name], data, [torch.arange(10)])
    types = data.vertex_types.clone()
    types[0] = (types[0] + 1) % 5
    kinds = data.graphs.types
    assert kinds is not None
    kinds = kinds.clone()
    kinds[0] = (kinds[0] + 1) % BONDS
    graphs = Graphs(data.graphs.starts, data.graphs.edges, kinds)
    for change in ({"vertex_types": types}, {"graphs": graphs}):
        other = GraphDataset(**{**vars(data), **change})
        changed = predictions(CONTESTANTS[name], other, [torch.arange(10)])
        assert (changed[0] - found[0]).abs() > 1e-5


@pytest.mark.parametrize("name", CONTESTANTS)
def test_sizes_are_equal(name: str) -> None:
    data = random_data(8)
    data.vertex_types[0], kinds = ATOMS - 1, data.graphs.types
    assert kinds is not None
    kinds[0] = BONDS - 1
    count = parameters(fitted(CONTESTANTS[name], data, 100_000))
    assert count == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_triangles_and_a_hexagon(name: str) -> None:
    """Messages between neighbours do not tell them apart; what every other model adds does."""
    triangles = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
    hexagon = [(i, (i + 1) % 6) for i in range(6)]
    others: Given = [(6, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5)]), (4, [(0, 1), (2, 3)])]
    data = dataset([(6, triangles), (6, hexagon), *others], plain=True)
    one, other = predictions(CONTESTANTS[name], data, [torch.arange(4)])[:2]
    assert (float((one - other).abs()) < 1e-6) is (name == "gine")


def test_return_probabilities() -> None:
    data = random_data(4)
    found = return_probabilities(data.graphs, 5)
    for number in range(4):
        one = data.graphs.take(torch.tensor([number]))
        graph = nx.empty_graph(one.vertices)
        graph.add_edges_from(one.edges.t().tolist())
        near = torch.from_numpy(nx.to_numpy_array(graph))
        walk = near / near.sum(1, keepdim=True).clamp(min=1)
        expected = torch.stack(
            [torch.linalg.matrix_power(walk, k).diagonal() for k in range(1, 6)], dim=1
        )
        begin = int(data.graphs.starts[number])
        torch.testing.assert_close(found[begin : begin + one.vertices], expected.float())


def test_hops_are_those_of_networkx() -> None:
    data = random_data(6)
    hops = hops_of(data.graphs, data.edge_types, 4).take(data.graphs, torch.tensor([4, 2]))
    graphs = data.graphs.take(torch.tensor([4, 2]))
    graph = nx.empty_graph(graphs.vertices)
    types = graphs.types
    assert types is not None
    for (u, v), kind in zip(graphs.edges.t().tolist(), types.tolist(), strict=True):
        graph.add_edge(u, v, kind=kind)
    for v in graph:
        far = nx.single_source_shortest_path_length(graph, v)
        for k in range(4):
            there = [u for u in graph if far.get(u) == k + 1]
            span = slice(int(hops.first[k, v]), int(hops.first[k, v + 1]))
            assert hops.other[int(hops.begin[k]) :][span].tolist() == there
            ways = [len(list(nx.all_shortest_paths(graph, v, u))) for u in there]
            assert hops.ways[v, k].tolist() == [
                sum(min(w, 3) == count for w in ways) for count in (1, 2, 3)
            ]
            inner = graph.subgraph(there)
            kinds = [kind for _, _, kind in inner.edges(data="kind")]
            assert hops.edges[v, k].tolist() == [kinds.count(t) for t in range(data.edge_types)]
            within = dict(nx.all_pairs_shortest_path_length(inner, 3))
            pairs = [
                sum(d == n for row in within.values() for d in row.values()) for n in (1, 2, 3)
            ]
            beside = sum(
                within[w].get(x, 9) == within[w].get(y, 8) for w in inner for x, y in inner.edges
            )
            expected = [min(n, MOST) for n in (beside, *pairs)] if kinds else [0] * 4
            assert hops.configuration[v, k].tolist() == expected


def test_products_are_those_of_each_graph() -> None:
    data = random_data(7)
    flat = flat_batch(data, torch.arange(7))
    batch = pair_batch(flat, 5, data.edge_types)
    one, other = torch.randn(2, 3, len(batch.kinds), dtype=torch.float64)
    found = iter(matrices(products(one, other, batch.groups), batch.groups))
    for left, right in zip(matrices(one, batch.groups), matrices(other, batch.groups), strict=True):
        torch.testing.assert_close(next(found), torch.einsum("wgij,wgjk->wgik", left, right))
    sizes = [size for size, count in batch.groups for _ in range(count)]
    assert sizes == flat.graphs.sizes[batch.order].tolist()
    edges = batch.kinds[(batch.kinds >= 5) & (batch.kinds < 5 + data.edge_types)]
    assert sorted((edges - 5).tolist()) == sorted(flat.kinds.tolist())


def test_cells_of_two_squares_that_share_an_edge() -> None:
    ladder = [(0, 1), (1, 2), (2, 3), (3, 0), (2, 4), (4, 5), (5, 3)]
    data = dataset([(6, ladder)])
    cells = cell_batch(flat_batch(data, torch.tensor([0])), cycles(data.graphs, 6))
    around = [set(cells.side[cells.cycle == c].tolist()) for c in (0, 1)]
    assert sorted(map(sorted, around)) == [[0, 1, 2, 3], [2, 4, 5, 6]]
    assert len(cells.heard) == 2 * 4 * 3
    shared = cells.heard == 2
    assert sorted(cells.said[shared].tolist()) == [0, 1, 3, 4, 5, 6]


def test_a_stopped_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    data = random_data(260)
    contestant = CONTESTANTS["gine"]

    def made(file: str) -> Training:
        torch.manual_seed(0)
        model: nn.Module = contestant.build(8, ATOMS, BONDS)
        return Training(model, contestant.batches(data), data, Course(4, 1e-2, 5), tmp_path / file)

    whole = made("whole").run(lambda text: None)

    def stop(text: str) -> None:
        if text.startswith("epoch 2/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made("cut").run(stop)
    again = made("cut")
    assert len(again.progress.validation) == 2
    assert again.run(lambda text: None) == whole
    assert len(again.progress.validation) == 4
    assert 1 <= again.progress.best_epoch <= 4
    other = Course(4, 1e-2, 6)
    torch.manual_seed(0)
    model = contestant.build(8, ATOMS, BONDS)
    found = Training(model, contestant.batches(data), data, other, tmp_path / "other")
    assert found.run(lambda text: None) != whole  # control: the order is part of the bits


def test_trials_come_first_and_choose_by_validation(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path / "rows.csv", COLUMNS, KEY)
    figures = dict.fromkeys(COLUMNS, "1")
    seen = []
    while cell := next_cell(["gine", "csgnn", "ppgn"], (0, 1), sheet):
        seen.append(cell)
        validation = {RATES[0]: ".3", RATES[1]: ".1", RATES[2]: ".2"}[cell.lr]
        figures["test"] = {".3": ".1", ".1": ".9", ".2": ".2"}[validation]
        row = dict(zip(KEY, cell.key, strict=True))
        sheet.add({**figures, **row, "validation": validation})
    kinds = [(cell.kind, cell.model, cell.seed) for cell in seen]
    assert kinds == [
        *[("trial", "gine", 100)] * 3, ("main", "gine", 0),
        *[("trial", "csgnn", 100)] * 3, ("main", "csgnn", 0), ("control", "gine", 0),
        ("main", "gine", 1), ("main", "csgnn", 1), *[("trial", "ppgn", 100)] * 3,
        ("short", "csgnn", 0), ("short", "ppgn", 0), ("short", "csgnn", 1), ("short", "ppgn", 1),
    ]  # fmt: skip
    assert {cell.lr for cell in seen if cell.kind != "trial"} == {RATES[1]}
    lines = table(sheet.rows).splitlines()
    assert [line.split(" | ")[:4] for line in lines[2:6]] == [
        ["| csgnn", "30", "0.002", "2"], ["| gine", "30", "0.002", "2"],
        ["| csgnn", "15", "0.002", "2"], ["| ppgn", "15", "0.002", "2"],
    ]  # fmt: skip
    assert "| 0.9000 ± 0.0000 |" in lines[2]
    assert str(Cell("main", "gine", 0, 3, 1e-3)) == "main gine seed 0 lr 0.001"
