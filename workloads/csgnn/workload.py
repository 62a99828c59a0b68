"""The plug-in ``csgnn``: a graph network over chordless structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Metric, Split, Value, Workload
from ithaca.workloads.csgnn.batch import GraphBatch
from ithaca.workloads.csgnn.config import CSGNNConfig
from ithaca.workloads.csgnn.data import GraphData
from ithaca.workloads.csgnn.dataset import Task
from ithaca.workloads.csgnn.model import Block, EdgeHead, Embed, GraphHead, VertexHead, Widths

__all__ = ["CSGNN", "CSGNNConfig"]

HEADS = {"graph": GraphHead, "vertex": VertexHead, "edge": EdgeHead}


class CSGNN(Workload):
    """A graph network with the layers ``embed``, ``block0`` .. ``block<n-1>`` and ``head``.

    Only vectors of vertices travel between layers; each stage finds the structure of a micro-batch
    by its id.

    Args:
        config: its size, its data and what is looked for in the graphs.
        seed: of the order of the samples.
        micro_batches: micro-batches in a step.
    """

    Config = CSGNNConfig
    metric = Metric("loss")
    fixed_shapes = False

    def __init__(self, config: CSGNNConfig, *, seed: int, micro_batches: int) -> None:
        self.config = config
        self.data = GraphData(config, micro_batches, seed)

    @cached_property
    def widths(self) -> Widths:
        """The sizes of the layers, which depend on the data too."""
        config, data = self.config, self.data.dataset
        features = data.vertex_features
        shape = config.structure.shape(data.edge_types)
        return Widths(
            dim=config.dim,
            vertex_types=int(data.vertex_types.max()) + 1 if len(data.vertex_types) else 1,
            vertex_features=0 if features is None else features.shape[1],
            edge_types=data.edge_types,
            counts=2 * len(shape.names()) if config.has_profile else 0,
            longest_cell=config.structure.cycle if config.has_cells else 0,
            outputs=data.outputs,
            dropout=config.dropout,
        )

    def layers(self) -> Sequence[LayerSpec]:
        """The embedding, the blocks and the head."""
        widths, output = self.widths, self.data.dataset.output
        blocks = [
            LayerSpec(f"block{i}", partial(Block, widths), needs_batch=True)
            for i in range(self.config.num_layers)
        ]
        head = LayerSpec("head", partial(HEADS[output], widths), needs_batch=output != "vertex")
        return [LayerSpec("embed", partial(Embed, widths)), *blocks, head]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """Cross entropy, squared or absolute error, summed over all targets; in fp32."""
        assert isinstance(output, Tensor)
        assert isinstance(batch.targets, GraphBatch)
        targets = batch.targets.targets.to(output.device)
        match self.data.dataset.task:
            case Task.CLASSES:
                return F.cross_entropy(output.float(), targets, reduction="sum")
            case Task.SQUARES:
                return F.mse_loss(output.float(), targets, reduction="sum")
            case Task.ABSOLUTE:
                return F.l1_loss(output.float(), targets, reduction="sum")

    def batch(self, which: BatchId) -> Batch:
        """Types (and features) of vertices, and the structure of their graphs as the targets."""
        return self.data.batch(which)

    def fingerprint(self) -> dict[str, str]:
        """Hashes and sizes of the data; ``ValueError`` if it cannot be used."""
        return self.data.fingerprint()

    def preparation(self) -> Sequence[Callable[[], object]]:
        """The search of each block of graphs, if there is a folder to keep structures in."""
        return self.data.preparation()

    def showcase(self, modules: Sequence[nn.Module]) -> str | None:
        """How far the trained model is from the first graphs of the validation part."""
        batch = self.data.batch(BatchId(0, 0, Split.VALIDATION))
        assert isinstance(batch.targets, GraphBatch)
        value: Value = batch.inputs
        with torch.no_grad():
            for spec, module in zip(self.layers(), modules, strict=True):
                module.eval()
                value = module(value, batch) if spec.needs_batch else module(value)
        assert isinstance(value, Tensor)
        targets = batch.targets.targets
        if self.data.dataset.task is Task.CLASSES:
            right = int((value.argmax(1) == targets).sum())
            return f"{right} of the first {len(targets)} of the validation part are right"
        errors = (value - targets).abs().mean().item()
        return f"mean absolute error on the first {len(targets)} targets: {errors:.4f}"
