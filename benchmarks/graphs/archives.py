"""Published data sets as archives for the workload: TU sets in ten folds, ZINC-12k rebuilt, EXP in
ten folds, substructure counting and QM9.

python -m benchmarks.graphs.archives tu DATA mutag.npz --name MUTAG --fold 1
python -m benchmarks.graphs.archives exp DATA exp.npz --fold 1
python -m benchmarks.graphs.archives counting DATA counting.npz
python -m benchmarks.graphs.archives zinc DATA zinc.npz       (needs rdkit, for the labels)
python -m benchmarks.graphs.archives qm9 qm9.npz              (needs qm9pack, for the molecules)
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import networkx as nx
import torch

from benchmarks.graphs.counting import COUNTED, counting
from benchmarks.graphs.families import read_exp
from benchmarks.graphs.molecules import molecules_of, ranks
from benchmarks.graphs.qm9 import qm9, tables
from ithaca.workloads.csgnn.archive import write_archive
from ithaca.workloads.csgnn.dataset import GraphDataset, Task, checked
from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.smiles import read_smiles

ZINC_TRAIN = 10_000


def _numbers(path: Path) -> list[int]:
    """The numbers in a file, between commas or lines."""
    return [int(word) for word in path.read_text().replace(",", " ").split()]


def tu(folder: Path, name: str, fold: int) -> GraphDataset:
    """A TU set as pytorch_DGCNN keeps it: one file, and the indices of ten folds.

    A tenth of what a fold trains on validates; the fold's own test part is kept for the test.

    Raises:
        ValueError: the file or the fold is missing or cut.
    """
    path = folder / "tu" / f"{name}.txt"
    if not path.exists() or not 1 <= fold <= 10:
        raise ValueError(f"{path} with folds 1..10 is needed; asked for was fold {fold}")
    words = iter(path.read_text().split("\n"))
    graphs: list[tuple[int, list[tuple[int, int]]]] = []
    labels: list[int] = []
    tags: list[int] = []
    for _ in range(int(next(words))):
        size, label = (int(word) for word in next(words).split())
        edges = []
        for v in range(size):
            tag, degree, *rest = next(words).split()
            tags.append(int(tag))
            edges += [(v, int(u)) for u in rest[: int(degree)] if v < int(u)]
        graphs.append((size, edges))
        labels.append(label)
    parts = folder / "tu" / f"{name}_folds"
    train = torch.tensor(_numbers(parts / f"train_{fold}.txt"))
    test = torch.tensor(_numbers(parts / f"test_{fold}.txt"))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(fold))
    held = len(train) // 10
    return GraphDataset(
        Graphs.of(graphs),
        ranks(tags),
        None,
        ranks(labels),
        Task.CLASSES,
        "graph",
        train[order[held:]].sort().values,
        train[order[:held]].sort().values,
        test,
    )


def _label(smiles: str) -> float:
    """The constrained solubility of the ZINC benchmark, of terms brought to mean 0 and variance 1:
    logP minus the score of synthetic accessibility minus the excess of the largest ring over 6."""
    chem = importlib.import_module("rdkit.Chem")
    crippen = importlib.import_module("rdkit.Chem.Crippen")
    config = importlib.import_module("rdkit.RDConfig")
    if config.RDContribDir + "/SA_Score" not in sys.path:
        sys.path.append(config.RDContribDir + "/SA_Score")
    scorer = importlib.import_module("sascorer")
    molecule = chem.MolFromSmiles(smiles)
    basis = nx.cycle_basis(nx.Graph(chem.GetAdjacencyMatrix(molecule)))
    excess = max(0, max((len(ring) for ring in basis), default=0) - 6)
    log_p, score = crippen.MolLogP(molecule), scorer.calculateScore(molecule)
    terms = (log_p - 2.4571) / 1.4343, (3.0526 - score) / 0.8335, (0.0486 - excess) / 0.2860
    return float(sum(terms))


def zinc(folder: Path) -> GraphDataset:
    """ZINC-12k rebuilt: validation and test by the benchmark's indices, and 10,000 of the other
    molecules of the same list to train on, as the benchmark's own cannot be had.

    Raises:
        ValueError: a SMILES line is broken.
    """
    files = folder / "zinc"
    valid = (files / "valid.smi.txt").read_text().split()
    tested = (files / "test.smi.txt").read_text().split()
    validation = [valid[i] for i in _numbers(files / "val.index")]
    test = [tested[i] for i in _numbers(files / "test.index")]
    others = sorted(set(valid) - set(validation))
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
    train = [others[i] for i in order[:ZINC_TRAIN].tolist()]
    lines = [*train, *validation, *test]
    graphs, types = molecules_of([read_smiles(line) for line in lines])
    ends = [len(train), len(train) + len(validation), len(lines)]
    return GraphDataset(
        graphs,
        types,
        None,
        torch.tensor([[_label(line)] for line in lines]),
        Task.ABSOLUTE,
        "graph",
        torch.arange(ends[0]),
        torch.arange(ends[0], ends[1]),
        torch.arange(ends[1], ends[2]),
    )


def exp(folder: Path, fold: int) -> GraphDataset:
    """EXP as classes: which of its pair a graph is. Both graphs of a pair are in one part: those
    with ``fold`` 1 .. 10 are kept for the test, those of the next fold validate.

    Raises:
        ValueError: the file is missing or cut, or there is no such fold.
    """
    if not 1 <= fold <= 10:
        raise ValueError(f"EXP has the folds 1..10; asked for was fold {fold}")
    graphs = read_exp(folder)
    numbers = torch.arange(graphs.count)
    folds = (numbers // 2) % 10 + 1
    test, validation = folds == fold, folds == fold % 10 + 1
    return GraphDataset(
        graphs,
        torch.zeros(graphs.vertices, dtype=torch.int64),
        None,
        numbers % 2,
        Task.CLASSES,
        "graph",
        numbers[~test & ~validation],
        numbers[validation],
        numbers[test],
    )


def _made(arguments: argparse.Namespace) -> GraphDataset:
    """The data set that is asked for; prints what has to be known of it."""
    match arguments.kind:
        case "tu":
            return tu(arguments.data, arguments.name, arguments.fold)
        case "exp":
            return exp(arguments.data, arguments.fold)
        case "counting":
            print("\n".join(f"target {i}: {name}" for i, name in enumerate(COUNTED)))
            return counting(arguments.data)
        case "qm9":
            data, scales = qm9(tables())
            print("\n".join(f"target {i}: {scale}" for i, scale in enumerate(scales)))
            return data
        case _:
            return zinc(arguments.data)


def main() -> None:
    """Writes the archive that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs.archives")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("tu", "exp", "counting", "zinc", "qm9"):
        kind = kinds.add_parser(name)
        if name != "qm9":
            kind.add_argument("data", type=Path, help="has tu/, zinc/, counting/ and exp.txt")
        kind.add_argument("to", type=Path)
        if name in ("tu", "exp"):
            kind.add_argument("--fold", type=int, default=1)
        if name == "tu":
            kind.add_argument("--name", choices=["MUTAG", "PROTEINS", "NCI1"], default="MUTAG")
    arguments = parser.parse_args()
    try:
        made = _made(arguments)
        write_archive(arguments.to, checked(made, str(arguments.to)))
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    print(f"{arguments.to}: {made.graphs.count} graphs, {made.graphs.vertices} vertices")


if __name__ == "__main__":
    main()
