"""The peers that we have written anew against PyTorch Geometric's own layers, weights copied.

Runs in the environment of ``make peers``, which has torch_geometric.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GINEConv, GPSConv

from benchmarks.graphs.models.batch import FlatBatch, flat_batch
from benchmarks.graphs.models.gine import GINELayer
from benchmarks.graphs.models.gps import HEADS, GPSLayer, Places
from ithaca.workloads.csgnn.dataset import GraphDataset, Task
from ithaca.workloads.csgnn.generated import random_graph
from ithaca.workloads.csgnn.graphs import Graphs

WIDTH = 8


def batch() -> FlatBatch:
    """Six random graphs with three types of edges."""
    made = [random_graph(number, 12) for number in range(6)]
    given = [(size, sorted(edges)) for size, edges in made]
    graphs = Graphs.of(given, [i % 3 for _, edges in given for i in range(len(edges))])
    everything = torch.arange(6)
    types, targets = torch.zeros(graphs.vertices, dtype=torch.int64), torch.zeros(6, 1)
    parts = everything, everything, everything
    data = GraphDataset(graphs, types, None, targets, Task.ABSOLUTE, "graph", *parts)
    return flat_batch(data, everything)


def copied(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """``theirs`` with the parameters of ``ours``, which come in the same order."""
    with torch.no_grad():
        pairs = zip(theirs.parameters(), ours.parameters(), strict=True)
        for one, other in pairs:
            one.copy_(other)
    return theirs


def test_gine_is_that_of_pyg() -> None:
    torch.manual_seed(0)
    flat = batch()
    ours = GINELayer(WIDTH, 3).double()
    ours.eps.data.fill_(0.25)
    network = nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(),
    ).double()  # fmt: skip
    theirs = GINEConv(network, eps=0.25)
    copied(ours.network, theirs.nn)  # only now: its constructor initialises the network again
    vertices = torch.randn(flat.graphs.vertices, WIDTH, dtype=torch.float64)
    edges = torch.stack([flat.source, flat.target])
    expected = theirs(vertices, edges, ours.kinds(flat.kinds))
    found = ours(vertices, flat)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    shuffled = theirs(vertices, edges, ours.kinds(flat.kinds.flip(0)))
    with pytest.raises(AssertionError):  # control: types of edges are part of it
        torch.testing.assert_close(found, shuffled, rtol=1e-6, atol=1e-9)


def test_gps_is_that_of_pyg() -> None:
    torch.manual_seed(0)
    flat = batch()
    ours = GPSLayer(WIDTH, 3).double()
    network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)).double()
    theirs = GPSConv(WIDTH, GINEConv(network), heads=HEADS, dropout=0.0, act="relu").double()
    copied(ours.near.network, theirs.conv.nn)
    with torch.no_grad():
        theirs.attn.in_proj_weight.copy_(ours.asked.weight)
        theirs.attn.in_proj_bias.copy_(ours.asked.bias)
    copied(ours.answered, theirs.attn.out_proj)
    copied(ours.network, theirs.mlp)
    vertices = torch.randn(flat.graphs.vertices, WIDTH, dtype=torch.float64)
    expected = theirs(
        vertices,
        torch.stack([flat.source, flat.target]),
        flat.owner,
        edge_attr=ours.near.kinds(flat.kinds),
    )
    found = ours(vertices, flat, Places(flat))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    wrong = Places(flat)
    wrong.mask = torch.ones_like(wrong.mask)
    with pytest.raises(AssertionError):  # control: who is padding is part of it
        torch.testing.assert_close(ours(vertices, flat, wrong), expected, rtol=1e-6, atol=1e-9)
