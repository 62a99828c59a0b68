"""What a user's model looks like to the runtime: layers, a loss, and batches by id.

A workload is three methods. Everything in it is a pure function of its configuration and of ids,
so that any worker can take over any micro-batch of any step and compute the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor, nn

Value = Tensor | tuple[Tensor, ...]
"""What crosses a cut between layers: one tensor or a tuple of tensors."""


class Split(Enum):
    """Which part of the data a batch comes from."""

    TRAIN = "train"
    VALIDATION = "validation"


@dataclass(frozen=True, slots=True)
class BatchId:
    """Names one micro-batch: ``index`` is its logical id in ``step``."""

    step: int
    index: int
    split: Split = Split.TRAIN


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch.

    Attributes:
        inputs: what the first layer is called with.
        targets: what the loss compares with; any structure.
        count: terms of the loss (tokens, graphs, ...); normalises the step's loss and gradients.
        samples: ids of the samples in it, for the ledger.
    """

    inputs: Value
    targets: Any
    count: int
    samples: tuple[int, ...] = ()


class WithLoss(NamedTuple):
    """Returned by a layer's ``forward`` that adds a loss of its own.

    ``loss`` is a scalar, a mean over the micro-batch; it is weighted with the batch's count.
    """

    value: Value
    loss: Tensor


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One entry of the layer sequence.

    Attributes:
        name: unique; parameters are named ``<name>.<parameter>`` in checkpoints.
        build: makes the module; called under a generator seeded by (seed, layer).
        needs_batch: call the module with ``(value, batch)`` instead of ``(value)``.
    """

    name: str
    build: Callable[[], nn.Module]
    needs_batch: bool = False


@dataclass(frozen=True, slots=True)
class TiedWeights:
    """Two parameters of two layers that are one weight: (layer name, parameter name) twice.

    Both start as the first one's initial value. Their gradients are added in layer order, and
    both are stepped alike; the norm counts them once.
    """

    first: tuple[str, str]
    second: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """How the loss is shown: ``name`` and the factor from the mean loss to it."""

    name: str = "loss"
    scale: float = 1.0


class Workload(ABC):
    """A model, its loss and its data.

    A plug-in has a pydantic model as its class attribute ``Config`` (``extra="forbid"``,
    ``frozen=True``) and is built as ``Plugin(config, seed=..., micro_batches=...)``, where
    ``micro_batches`` is the number of logical micro-batches of a step. It is built in every
    worker and must do so to the same effect; heavy data belongs in files that it maps.
    """

    Config: ClassVar[type[BaseModel]]
    metric: Metric = Metric()
    fixed_shapes: bool = True
    """Whether every micro-batch has tensors of the same shapes at each cut; if not, shapes
    travel ahead of every tensor."""

    @abstractmethod
    def __init__(self, config: Any, *, seed: int, micro_batches: int) -> None:  # noqa: ANN401
        """Built from its own configuration, once in every worker."""

    @abstractmethod
    def layers(self) -> Sequence[LayerSpec]:
        """The model as a sequence; cheap, builds no module."""

    @abstractmethod
    def loss(self, output: Value, batch: Batch) -> Tensor:
        """The *sum* of the loss over the micro-batch's ``batch.count`` terms, an fp32 scalar."""

    @abstractmethod
    def batch(self, which: BatchId) -> Batch:
        """The micro-batch ``which``: a pure function of the id, on the CPU."""

    def ties(self) -> Sequence[TiedWeights]:
        """Weights that two layers share; none by default."""
        return ()

    def fingerprint(self) -> dict[str, str]:
        """What the result depends on besides the configuration, such as hashes of data files."""
        return {}

    def preparation(self) -> Sequence[Callable[[], object]]:
        """Pieces of work to be done once before training, for ``ithaca prepare``; none by default.

        Each can be pickled, leaves its result in a file that all machines of the job see, does
        nothing if that is there, and may be done twice, at once or in part.
        """
        return ()

    def showcase(self, modules: Sequence[nn.Module]) -> str | None:
        """A text for the end of the run, made with the trained layers; None for no text."""
        return None


def tensors(value: Value) -> tuple[Tensor, ...]:
    """The tensors of ``value``, in order."""
    return (value,) if isinstance(value, Tensor) else value


def like(value: Value, parts: Sequence[Tensor]) -> Value:
    """``parts`` in the form of ``value``: a tensor, or a tuple of as many tensors."""
    return parts[0] if isinstance(value, Tensor) else tuple(parts)


def default_dtype(name: str) -> torch.dtype:
    """The torch type called ``fp32`` or ``bf16``; ``KeyError`` otherwise."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
