"""A data set of graphs in one file, as arrays of numpy: see docs/graphs.md."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ithaca.workloads.csgnn.dataset import GraphDataset, Task, checked
from ithaca.workloads.csgnn.graphs import Graphs

_NEEDED = ("starts", "edges", "targets", "train", "validation", "task", "output")
_MAY_HAVE = ("edge_types", "vertex_types", "vertex_features", "test")


def write_archive(path: Path, data: GraphDataset) -> None:
    """Writes ``data`` to ``path``, an .npz file."""
    optional = {
        "edge_types": data.graphs.types,
        "vertex_features": data.vertex_features,
    }
    np.savez_compressed(
        path,
        allow_pickle=False,
        starts=data.graphs.starts.numpy(),
        edges=data.graphs.edges.numpy(),
        vertex_types=data.vertex_types.numpy(),
        targets=data.targets.numpy(),
        train=data.train.numpy(),
        validation=data.validation.numpy(),
        test=data.test.numpy(),
        task=np.array(data.task.value),
        output=np.array(data.output),
        **{name: value.numpy() for name, value in optional.items() if value is not None},
    )


def read_archive(path: Path) -> GraphDataset:
    """The data set in the .npz file ``path``.

    Raises:
        ValueError: there is no such file, it lacks an array, or what is in it cannot be used.
    """
    what = f"the graphs in {path}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"cannot read {what}: {error}; give an .npz file of arrays, as docs/graphs.md has it"
        ) from error
    missing = [name for name in _NEEDED if name not in arrays]
    unknown = sorted(set(arrays) - {*_NEEDED, *_MAY_HAVE})
    if missing or unknown:
        raise ValueError(
            f"{what}: missing {', '.join(missing) or 'nothing'}, unknown "
            f"{', '.join(unknown) or 'nothing'}; the arrays are {', '.join(_NEEDED)} and, if "
            f"there are any, {', '.join(_MAY_HAVE)}"
        )
    task, output = str(arrays["task"]), str(arrays["output"])
    tasks = [one.value for one in Task]
    if task not in tasks or output not in ("graph", "vertex", "edge"):
        raise ValueError(
            f"{what}: task is {task!r} and output {output!r}; a task is one of "
            f"{', '.join(tasks)}, an output graph, vertex or edge"
        )
    return checked(_dataset(arrays, Task(task), output), what)


def _dataset(arrays: dict[str, np.ndarray], task: Task, output: str) -> GraphDataset:
    def whole(name: str, default: Tensor) -> Tensor:
        return torch.from_numpy(arrays[name]).long() if name in arrays else default

    starts = torch.from_numpy(arrays["starts"]).long()
    edges = torch.from_numpy(arrays["edges"]).long().contiguous()
    types = torch.from_numpy(arrays["edge_types"]).long() if "edge_types" in arrays else None
    features = arrays.get("vertex_features")
    targets = torch.from_numpy(arrays["targets"])
    if task is not Task.CLASSES:
        targets = targets.float().reshape(len(targets), -1)
    return GraphDataset(
        Graphs(starts, edges, types),
        whole("vertex_types", torch.zeros(int(starts[-1]), dtype=torch.int64)),
        None if features is None else torch.from_numpy(features).float(),
        targets.long() if task is Task.CLASSES else targets,
        task,
        "graph" if output == "graph" else "vertex" if output == "vertex" else "edge",
        whole("train", starts[:0]),
        whole("validation", starts[:0]),
        whole("test", starts[:0]),
    )
