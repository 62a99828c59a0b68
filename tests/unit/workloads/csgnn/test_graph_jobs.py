"""Every job on a published data set: its file is accepted, and a small set of the kind is learned.

The files of the sets are written here, a few graphs each; what reads them is the benchmark's.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.graphs import archives
from benchmarks.graphs.archives import exp, tu
from benchmarks.graphs.counting import COUNTED, counting
from benchmarks.graphs.qm9 import PROPERTIES, qm9, tables
from ithaca.runtime.cli.main import main
from ithaca.runtime.config.load import load
from ithaca.runtime.workload import BatchId, Value
from ithaca.workloads.csgnn.archive import write_archive
from ithaca.workloads.csgnn.dataset import GraphDataset, Task, checked
from ithaca.workloads.csgnn.generated import random_graph
from ithaca.workloads.csgnn.workload import CSGNN, CSGNNConfig
from tests.helpers.toy_tu import write_toy_tu

CONFIGS = Path(__file__).parents[4] / "configs"
MOLECULES = ("CCO", "C1CC1", "c1ccncc1", "CC(=O)O", "C#N", "C1CCC1O", "NCC=O", "c1ccoc1")


def a_tu_set(folder: Path) -> GraphDataset:
    """A triangle and a path, twenty times."""
    return tu(write_toy_tu(folder), "TOY", 1)


def an_exp_set(folder: Path) -> GraphDataset:
    """Two triangles and a hexagon, which messages between neighbours do not tell apart."""
    pair = ["6 6\n0 1\n1 2\n0 2\n3 4\n4 5\n3 5", "6 6\n0 1\n1 2\n2 3\n3 4\n4 5\n0 5"]
    (folder / "exp.txt").write_text("\n".join(["1200", *pair * 600]))
    data = exp(folder, 1)
    few = torch.arange(0, 240)
    return GraphDataset(**{**vars(data), "train": few[20:], "validation": few[:10],
                           "test": few[10:20]})  # fmt: skip


def write_counting(folder: Path, rows: int = 40) -> Path:
    """Random graphs and numbers that follow from their edges."""
    files = folder / "counting"
    files.mkdir()
    matrices = np.empty(40, dtype=object)
    lines = ["# counts", "# of edges"]
    for number in range(40):
        size, edges = random_graph(number, 12)
        matrix = np.zeros((size, size), dtype=np.int8)
        for u, v in edges:
            matrix[u, v] = matrix[v, u] = 1
        matrices[number] = matrix
        if number < rows:
            lines.append("\t".join(str(len(edges) + i) for i in range(len(COUNTED))))
    parts = np.empty((), dtype=object)
    names = {"train": np.arange(30, 2, -1), "val": np.arange(30, 35), "test": np.arange(35, 40)}
    parts[()] = names
    both = np.empty(2, dtype=object)
    both[0], both[1] = matrices, parts
    np.save(files / "graph.npy", both, allow_pickle=True)
    (files / "counts.csv").write_text("\n".join(lines) + "\n")
    return folder


def a_counting_set(folder: Path) -> GraphDataset:
    """Forty of them."""
    return counting(write_counting(folder))


def write_qm9(folder: Path, smiles: tuple[str, ...] = MOLECULES * 8) -> Path:
    """A table of molecules whose properties follow from their lengths."""
    path = folder / "qm9_part1.csv"
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["SMILES", *PROPERTIES.values()])
        rows.writeheader()
        for line in smiles:
            rows.writerow({"SMILES": line, **{p: -3.0 * len(line) for p in PROPERTIES.values()}})
    return path


def a_qm9_set(folder: Path) -> GraphDataset:
    """Sixty-four molecules."""
    return qm9([write_qm9(folder)], held=8)[0]


def a_zinc_set(folder: Path) -> GraphDataset:
    """The same molecules with the first property as the only target."""
    data = a_qm9_set(folder)
    return GraphDataset(**{**vars(data), "targets": data.targets[:, :1].contiguous()})


JOBS = {
    "csgnn_tu": a_tu_set,
    "csgnn_exp": an_exp_set,
    "csgnn_counting": a_counting_set,
    "csgnn_qm9": a_qm9_set,
    "csgnn_zinc": a_zinc_set,
}


def test_no_job_is_forgotten() -> None:
    made = {path.stem for path in CONFIGS.glob("csgnn_*.yaml")}
    assert made == {*JOBS, "csgnn_quick"}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_accepted_and_learns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    job = load(CONFIGS / f"{name}.yaml").job
    config = CSGNNConfig.model_validate({**job.workload.options, "dim": 12, "batch_size": 4})
    assert config.data.file is not None
    write_archive(tmp_path / config.data.file.name, checked(JOBS[name](tmp_path), name))
    assert main(["check", str(CONFIGS / f"{name}.yaml"), "layout.micro_batches=2"]) == 0
    assert "is a valid job" in capsys.readouterr().out
    assert learned(CSGNN(config, seed=0, micro_batches=2)) < 0.8


def learned(model: CSGNN, steps: int = 32) -> float:
    """The loss after some steps of training, as a part of the one before."""
    torch.manual_seed(0)
    modules = [layer.build() for layer in model.layers()]
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)

    def loss(which: BatchId) -> torch.Tensor:
        batch = model.batch(which)
        value: Value = batch.inputs
        for spec, module in zip(model.layers(), modules, strict=True):
            value = module(value, batch) if spec.needs_batch else module(value)
        return model.loss(value, batch) / batch.count

    def whole() -> float:
        with torch.no_grad():
            return sum(loss(BatchId(0, index)).item() for index in range(2))

    before = whole()
    for step in range(steps):
        optimizer.zero_grad()
        loss(BatchId(step, step % 2)).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return whole() / before


# --- the sets themselves --------------------------------------------------------------------------


def test_pairs_of_exp_stay_together(tmp_path: Path) -> None:
    an_exp_set(tmp_path)
    data = exp(tmp_path, 10)
    assert data.task is Task.CLASSES
    assert data.targets[:4].tolist() == [0, 1, 0, 1]
    parts = [set((part // 2).tolist()) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [480, 60, 60]
    assert len(set.union(*parts)) == 600
    assert data.test[:2].tolist() == [18, 19]
    with pytest.raises(ValueError, match=r"folds 1\.\.10; asked for was fold 0"):
        exp(tmp_path, 0)


def test_counts_are_read_with_their_parts(tmp_path: Path) -> None:
    data = a_counting_set(tmp_path)
    assert data.graphs.count == 40
    assert len(data.train) == 28
    assert data.train.tolist() == sorted(data.train.tolist())
    assert data.targets[data.train].std(0).tolist() == pytest.approx([1.0] * len(COUNTED))
    edges = data.graphs.edge_starts().diff()
    ratio = data.targets[:, 0] / edges
    assert ratio.tolist() == pytest.approx([ratio[0].item()] * 40)


def test_broken_counts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read graph\.npy and counts\.csv"):
        counting(tmp_path)
    with pytest.raises(ValueError, match=r"40 graphs, and counts\.csv has 39 rows"):
        counting(write_counting(tmp_path, rows=39))


def test_a_pickle_that_could_do_more_is_refused(tmp_path: Path) -> None:
    write_counting(tmp_path)
    evil = np.empty(2, dtype=object)
    evil[0], evil[1] = Path("x"), 1
    np.save(tmp_path / "counting" / "graph.npy", evil, allow_pickle=True)
    with pytest.raises(ValueError, match="which is not an array"):
        counting(tmp_path)


def test_properties_have_mean_0_and_say_their_scale(tmp_path: Path) -> None:
    data, scales = qm9([write_qm9(tmp_path)], held=8)
    assert data.targets.shape == (64, 12)
    assert data.targets[data.train].mean(0).abs().max() < 1e-5
    assert data.targets[data.train].std(0).tolist() == pytest.approx([1.0] * 12)
    lengths = torch.tensor([float(len(line)) for line in MOLECULES * 8])
    deviation = 3 * lengths[data.train].double().std().item()
    assert (
        f"alpha: mean {-3 * lengths[data.train].mean():.6g}, deviation {deviation:.6g}"
        in (scales[1])
    )
    assert len({*data.train.tolist(), *data.validation.tolist(), *data.test.tolist()}) == 64


def test_broken_molecules_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 molecules are too few to hold back twice 32"):
        qm9([write_qm9(tmp_path)], held=32)
    with pytest.raises(ValueError, match="ring 1 is not closed"):
        qm9([write_qm9(tmp_path, ("C1CC", *MOLECULES))], held=1)
    path = write_qm9(tmp_path)
    path.write_text(path.read_text().replace("-9.0", "nine", 1))
    with pytest.raises(ValueError, match=r"qm9_part1\.csv, row 1: could not convert"):
        qm9([path], held=8)


def test_without_the_package_qm9_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archives, "tables", partial(tables, "no_such_package"))
    monkeypatch.setattr("sys.argv", ["archives", "qm9", str(tmp_path / "qm9.npz")])
    with pytest.raises(SystemExit) as stopped:
        archives.main()
    assert stopped.value.code == 2
    assert "which is not installed here; call `pip install" in capsys.readouterr().err
    assert not (tmp_path / "qm9.npz").exists()
