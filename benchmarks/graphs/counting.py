"""Substructure counting: 5,000 random graphs and how often six subgraphs and three homomorphic
images are in each, as the repository ``loopy`` keeps them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ithaca.workloads.csgnn.dataset import GraphDataset, Task
from ithaca.workloads.csgnn.graphs import Graphs

COUNTED = (
    "chordal4 (hom)", "boat (hom)", "chordal6 (hom)",
    "cycle3", "cycle4", "cycle5", "cycle6", "chordal4", "chordal5",
)  # fmt: skip
"""The columns of the targets."""
PARTS = ("train", "val", "test")
_ARRAYS = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled arrays, and refuses everything else that a pickle could do."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is in it, which is not an array")
        return _ARRAYS[module, name]


def _objects(path: Path) -> Any:  # noqa: ANN401
    """What the .npy file of objects has: matrices of neighbours, and the parts."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            np.lib.format.read_array_header_1_0(file)
        else:
            np.lib.format.read_array_header_2_0(file)
        return _ArraysOnly(io.BytesIO(file.read())).load()


def counting(folder: Path) -> GraphDataset:
    """The graphs of ``folder``/counting; targets are divided by their deviations over the training
    part, as is usual, and the parts are the published ones.

    Raises:
        ValueError: a file is missing, broken, or the two do not fit.
    """
    files = folder / "counting"
    try:
        matrices, held = _objects(files / "graph.npy")
        named = held.item()
        parts = {name: torch.from_numpy(named[name]).long() for name in PARTS}
        lines = (files / "counts.csv").read_text().splitlines()
        numbers = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        counts = torch.tensor([[float(word) for word in row] for row in numbers])
    except (OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ValueError(f"cannot read graph.npy and counts.csv in {files}: {error}") from error
    if counts.shape != (len(matrices), len(COUNTED)):
        raise ValueError(
            f"{files}: there are {len(matrices)} graphs, and counts.csv has {counts.shape[0]} rows "
            f"of {counts.shape[1]} numbers; it should have a row of {len(COUNTED)} for each"
        )
    graphs = [
        (len(matrix), [(int(u), int(v)) for u, v in np.argwhere(np.triu(matrix, 1))])
        for matrix in matrices
    ]
    found = Graphs.of(graphs)
    return GraphDataset(
        found,
        torch.zeros(found.vertices, dtype=torch.int64),
        None,
        counts / counts[parts["train"]].std(0),
        Task.ABSOLUTE,
        "graph",
        *(parts[name].sort().values for name in PARTS),
    )
