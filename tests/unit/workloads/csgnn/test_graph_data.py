"""Micro-batches of graphs by id, what is kept on disk, and data that cannot be used."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ithaca.runtime.workload import BatchId, Split
from ithaca.workloads.csgnn import store
from ithaca.workloads.csgnn.archive import read_archive, write_archive
from ithaca.workloads.csgnn.batch import GraphBatch
from ithaca.workloads.csgnn.config import CSGNNConfig
from ithaca.workloads.csgnn.data import GraphData, balanced
from ithaca.workloads.csgnn.generated import csl, walks
from ithaca.workloads.csgnn.graph6 import read_graph6
from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.structure import ProfileShape

SMALL = {"source": "walks", "graphs": 40, "vertices": 10}


def data(micro_batches: int = 4, **changes: Any) -> GraphData:  # noqa: ANN401
    """Random graphs in micro-batches of 4."""
    given = {"batch_size": 4, "data": SMALL, **changes}
    return GraphData(CSGNNConfig.model_validate(given), micro_batches, seed=0)


@given(st.lists(st.integers(0, 1000), min_size=6, max_size=60), st.integers(1, 6))
def test_items_are_dealt_evenly(weights: list[int], bins: int) -> None:
    dealt = balanced(weights, bins)
    assert sorted(i for items in dealt for i in items) == list(range(len(weights)))
    assert all(dealt)
    loads = [sum(max(weights[i], 1) for i in items) for items in dealt]
    assert max(loads) - min(loads) <= max(*weights, 1)


def test_each_graph_once_per_epoch() -> None:
    source = data()
    seen = Counter(
        int(number)
        for step in range(2)
        for index in range(4)
        for number in source.numbers(BatchId(step, index))[0]
    )
    assert sorted(seen.elements()) == sorted(source.dataset.train.tolist())
    samples = [n for index in range(4) for n in source.batch(BatchId(1, index)).samples]
    assert sorted(samples) == list(range(16, 32))


def test_a_batch_depends_on_its_id_alone() -> None:
    first, second = data(), data()
    second.batch(BatchId(3, 3))
    for which in (BatchId(0, 2), BatchId(7, 1), BatchId(7, 1, Split.VALIDATION)):
        one, other = first.batch(which).targets, second.batch(which).targets
        assert isinstance(one, GraphBatch)
        assert torch.equal(one.counts, other.counts)
        assert torch.equal(one.targets, other.targets)
        assert one.pairs is not None
        assert torch.equal(one.pairs.forth.other, other.pairs.forth.other)


def test_micro_batches_cost_about_the_same() -> None:
    source = data(batch_size=8, data={**SMALL, "graphs": 400, "vertices": 40})
    weights = source.weights
    for step in range(4):
        loads = [int(weights[source.numbers(BatchId(step, index))[0]].sum()) for index in range(4)]
        assert max(loads) < 1.2 * min(loads)


@pytest.mark.parametrize("output", ["graph", "vertex", "edge"])
def test_targets_follow_their_graphs(output: str) -> None:
    source = data(data={**SMALL, "output": output})
    chosen, _ = source.numbers(BatchId(2, 1))
    batch = source.batch(BatchId(2, 1))
    starts, all_targets = source.dataset.target_starts(), source.dataset.targets
    wanted = [all_targets[starts[g] : starts[g + 1]] for g in chosen.tolist()]
    assert torch.equal(batch.targets.targets, torch.cat(wanted))
    assert batch.count == batch.targets.targets.numel()


def test_walks_count_triangles() -> None:
    made = walks(30, 12, "graph")
    raw = torch.tensor([[0.0], [1.0]])
    assert made.targets.shape == (30, 3)
    assert made.targets.mean(0).abs().max() < 1e-5
    assert raw.shape == (2, 1)


def test_folds_part_the_copies() -> None:
    for fold in range(5):
        made = csl(fold)
        parts = [made.train, made.validation, made.test]
        assert [len(part) for part in parts] == [90, 30, 30]
        assert torch.cat(parts).unique().numel() == 150
        assert torch.bincount(made.targets[made.test]).tolist() == [3] * 10
    with pytest.raises(ValueError, match=r"folds 0\.\.4, not 5"):
        csl(5)


# --- what is kept on disk -------------------------------------------------------------------------


def test_a_structure_is_the_same_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GRAPHS_IN_BLOCK", 7)
    graphs, shape = walks(40, 10, "graph").graphs, ProfileShape(4, 6)
    plain = store.structure_of(graphs, shape, None)
    blocks = list(store.blocks(graphs, shape, 7))
    searched = store.joined([block.search() for block in blocks], graphs, shape)
    for block in blocks:
        store.ensure(block, tmp_path)
    kept = [store.stored(block, tmp_path) for block in blocks]
    read = store.joined([one for one in kept if one is not None], graphs, shape)
    assert len(list(tmp_path.iterdir())) == 6
    for one in (searched, read):
        assert store.encoded(one) == store.encoded(plain)


def test_a_broken_file_is_searched_again(tmp_path: Path) -> None:
    graphs, shape = walks(20, 8, "graph").graphs, ProfileShape(3, 5)
    (block,) = store.blocks(graphs, shape)
    path = store.ensure(block, tmp_path)
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:100], b"", whole[:-40] + b"x" * 40):
        path.write_bytes(torn)
        assert store.stored(block, tmp_path) is None
        store.ensure(block, tmp_path)
        assert path.read_bytes() == whole


def test_names_tell_inputs_and_parameters_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = walks(6, 8, "graph").graphs
    typed = Graphs(graphs.starts, graphs.edges, torch.zeros(graphs.edges.shape[1]).long())
    blocks = [
        store.Block(graphs, ProfileShape(3, 5)),
        store.Block(graphs, ProfileShape(3, 6)),
        store.Block(graphs, ProfileShape(3, 5, budget=9)),
        store.Block(typed, ProfileShape(3, 5)),
        store.Block(walks(7, 8, "graph").graphs, ProfileShape(3, 5)),
    ]
    names = {block.name() for block in blocks}
    monkeypatch.setattr(store, "SEARCH", 2)
    assert len(names | {blocks[0].name()}) == 6


# --- data that cannot be used ---------------------------------------------------------------------


def test_an_archive_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "graphs.npz"
    for made in (walks(20, 8, "edge"), csl(1)):
        write_archive(path, made)
        read = read_archive(path)
        for name, value in vars(made).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(getattr(read, name), value)
        assert torch.equal(read.graphs.edges, made.graphs.edges)


def spoiled(path: Path, **changes: Any) -> Path:  # noqa: ANN401
    """An archive of two graphs with features, with changes; None leaves an array out."""
    arrays: dict[str, Any] = {
        "starts": [0, 3, 5],
        "edges": [[0, 1, 3], [1, 2, 4]],
        "vertex_features": np.ones((5, 2), np.float32),
        "targets": np.ones((2, 1), np.float32),
        "train": [0],
        "validation": [1],
        "task": "squares",
        "output": "graph",
        **changes,
    }
    kept = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    np.savez(path, allow_pickle=False, **kept)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertex_features": [[0, 1]] * 4 + [[0, float("nan")]]}, "features of vertex 4 are not"),
        ({"targets": [[1.0], [float("inf")]]}, "targets of graph 1 are not finite"),
        ({"targets": [[1.0]]}, "1 targets for 2 graphs"),
        ({"train": []}, "no graph for train"),
        ({"validation": [2]}, "names graph 2; there are 2"),
        ({"task": "guess"}, "task is 'guess'"),
        ({"edges": None}, "missing edges, unknown nothing"),
        ({"labels": [1]}, "missing nothing, unknown labels"),
        ({"vertex_types": [0, 1]}, "2 types for 5 vertices"),
        ({"vertex_types": [0, 1, -1, 0, 0]}, "are numbers from 0"),
    ],
)
def test_bad_archives_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_archive(spoiled(tmp_path / "bad.npz", **changes))


def test_a_good_archive_trains_and_a_loop_in_it_is_named(tmp_path: Path) -> None:
    path = spoiled(tmp_path / "good.npz")
    assert data(1, batch_size=1, data={"file": path}).batch(BatchId(0, 0)).count == 1
    spoiled(path, edges=[[0, 1, 3], [1, 1, 4]])
    with pytest.raises(ValueError, match="vertex 1 has an edge to itself"):
        data(1, batch_size=1, data={"file": path}).fingerprint()


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_no_archive_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "graphs.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read the graphs in"):
        read_archive(path)


def test_graphs_too_dense_are_refused_or_cut() -> None:
    with pytest.raises(ValueError, match="are too dense for the budget of 20"):
        data(structure={"budget": 20}).fingerprint()
    accepted = data(structure={"budget": 20, "dense": "shorten"}).fingerprint()
    assert int(accepted["shortened"]) > 0


def test_empty_graphs_and_lone_vertices_have_a_profile() -> None:
    graphs = Graphs.of([(0, []), (1, []), (2, [])])
    found = store.structure_of(graphs, ProfileShape(2, 4), None)
    assert found.profile.first.tolist() == [0, 1, 2, 3]
    assert found.profile.table.sum() == 0
    assert found.cells.owner.tolist() == [0, 0, 0, 0]


def test_a_target_that_is_not_there_is_named() -> None:
    assert data(data={**SMALL, "target": 1}).dataset.outputs == 1
    with pytest.raises(ValueError, match="no target 3: the data has 3 columns"):
        data(data={**SMALL, "target": 3}).fingerprint()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A b", "is no graph6 line"),
        (":An", "is no graph6 line"),
        ("D", "0 bits, but 5 vertices need 10"),
        ("~?", "ends within its number"),
    ],
)
def test_bad_graph6_is_named(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_graph6([line])


def test_graph6_is_read() -> None:
    read = read_graph6([">>graph6<<DQc", "", b"@", "?"])
    assert read.sizes.tolist() == [5, 1, 0]
    assert sorted(read.edges.t().tolist()) == [[0, 2], [0, 4], [1, 3], [3, 4]]
