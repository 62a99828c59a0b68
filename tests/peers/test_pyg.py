"""Our faces to PyTorch Geometric: batches shift what they should, and its layer has our sums.

Runs in the environment of ``make peers``, which has torch_geometric.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.nn import MessagePassing
from torch_geometric.transforms import Compose

from ithaca.workloads.csgnn import pyg
from ithaca.workloads.csgnn.archive import read_archive, write_archive
from ithaca.workloads.csgnn.batch import features, pairs
from ithaca.workloads.csgnn.dataset import Task
from ithaca.workloads.csgnn.generated import random_graph
from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.segments import segment_sum
from ithaca.workloads.csgnn.structure import ProfileShape, cycles, profile

SHAPE = ProfileShape(4, 6)


def graphs() -> list[Data]:
    """Nine random graphs, one of them with edges shuffled."""
    made = []
    for number in range(9):
        size, edges = random_graph(number, 12)
        one = torch.tensor(edges).t()
        both = torch.cat([one, one.flip(0)], dim=1)[:, torch.randperm(2 * len(edges))]
        made.append(Data(edge_index=both, num_nodes=size, y=torch.tensor([float(number)])))
    return made


def whole() -> Graphs:
    """The same graphs of ours."""
    made = [random_graph(number, 12) for number in range(9)]
    return Graphs.of([(size, sorted(edges)) for size, edges in made])


def test_a_batch_has_the_profile_of_its_graphs_together() -> None:
    transform = Compose([pyg.ChordlessTransform(SHAPE)])
    batch = Batch.from_data_list([transform(graph) for graph in graphs()])
    found = profile(whole(), SHAPE)
    assert torch.equal(batch.pair_index[1], found.first_vertices())
    assert torch.equal(batch.pair_index[0], found.other.long())
    assert torch.equal(batch.profile[batch.pair_row], found.table[found.row.long()])
    cells = cycles(whole(), SHAPE.cycle)
    assert torch.equal(batch.cell_index[0], cells.vertex.long())
    assert torch.equal(batch.cell_length, cells.first.diff())
    owner = torch.arange(len(cells.first) - 1).repeat_interleave(cells.first.diff())
    assert torch.equal(batch.cell_index[1], owner)


def test_without_the_shift_a_batch_is_wrong() -> None:
    """Control: plain ``Data`` does not know that rows have to be shifted."""
    transform = pyg.ChordlessTransform(SHAPE)
    plain = [Data.from_dict(transform(graph).to_dict()) for graph in graphs()]
    batch = Batch.from_data_list(plain)
    found = profile(whole(), SHAPE)
    assert not torch.equal(batch.profile[batch.pair_row], found.table[found.row.long()])


class Plain(MessagePassing):
    """Written anew, with what PyG has."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        summed: torch.Tensor = self.propagate(edge_index, x=x, scale=scale)
        return summed

    def message(self, x_j: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x_j * scale


def test_sums_and_gradients_are_those_of_pyg() -> None:
    torch.manual_seed(0)
    batch = Batch.from_data_list([pyg.ChordlessTransform(SHAPE)(graph) for graph in graphs()])
    phi = nn.Sequential(nn.Linear(2 * len(SHAPE.names()), 8), nn.SiLU(), nn.Linear(8, 8)).double()
    x = torch.randn(batch.num_nodes, 8, dtype=torch.float64, requires_grad=True)
    found = profile(whole(), SHAPE)
    ours = segment_sum(phi(features(found.table).double()), x, pairs(found))
    layer = pyg.ChordlessConv(phi)(x, batch)
    scale = phi(features(found.table[found.row.long()]).double())
    plain = Plain()(x, torch.stack([found.other.long(), found.first_vertices()]), scale)
    results = []
    for out in (ours, layer, plain):
        parameters = [x, *phi.parameters()]
        results.append([out, *torch.autograd.grad(out.square().sum(), parameters)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


class Stored(InMemoryDataset):
    """Random graphs, transformed once and kept on disk by PyG."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), pre_transform=pyg.ChordlessTransform(SHAPE))
        self.load(self.processed_paths[0], data_cls=pyg.ChordlessData)

    @property
    def processed_file_names(self) -> list[str]:
        return ["graphs.pt"]

    def process(self) -> None:
        assert self.pre_transform is not None
        self.save([self.pre_transform(graph) for graph in graphs()], self.processed_paths[0])


def test_a_data_set_of_pyg_becomes_one_of_ours(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    data = pyg.from_pyg(
        stored, task=Task.SQUARES, output="graph", train=range(6), validation=range(6, 9)
    )
    assert torch.equal(data.graphs.starts, whole().starts)
    ours, theirs = (
        {tuple(edge) for edge in one.edges.t().tolist()} for one in (whole(), data.graphs)
    )
    assert ours == theirs
    assert data.targets.flatten().tolist() == list(map(float, range(9)))
    write_archive(tmp_path / "graphs.npz", data)
    assert torch.equal(read_archive(tmp_path / "graphs.npz").targets, data.targets)


def test_a_transformed_graph_can_be_pickled() -> None:
    made = pyg.ChordlessTransform(SHAPE)(graphs()[0])
    assert torch.equal(pickle.loads(pickle.dumps(made)).pair_row, made.pair_row)


@pytest.mark.parametrize(
    ("edges", "message"),
    [([[0, 1], [1, 1]], "edge to itself"), ([[0], [1]], "one direction only")],
)
def test_graphs_that_are_not_simple_are_named(edges: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pyg.ChordlessTransform(SHAPE)(Data(edge_index=torch.tensor(edges), num_nodes=3))
