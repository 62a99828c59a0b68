"""What is known of a sequence before it runs: how the model is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter


@dataclass(frozen=True)
class Signature:
    """One way to call the model; steps that are called alike are expected to run alike.

    Args:
        training: the model's mode.
        grad: whether autograd records.
        autocast: whether dtypes are chosen by torch.
        shapes: of all tensors among the arguments, with their dtypes.
    """

    training: bool
    grad: bool
    autocast: bool
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def __str__(self) -> str:
        shapes = " ".join(f"{dtype}{list(shape)}" for dtype, shape in self.shapes)
        mode = "train" if self.training else "eval"
        words = [mode, *["no_grad"][self.grad :], *["autocast"][not self.autocast :], shapes]
        return " ".join(words)


def tensors_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors among arguments, also in lists and dictionaries."""
    return (part for part in tree_iter((args, kwargs)) if isinstance(part, Tensor))


def signature(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
    """The signature of a call of ``model`` that begins now."""
    return Signature(
        model.training,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        tuple(
            (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for tensor in tensors_in(args, kwargs)
        ),
    )
