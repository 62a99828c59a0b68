"""Gradients by the engine of autograd, without the library of symbolic shapes above it.

``torch.autograd.grad`` compares the shape of each given gradient by a library for symbolic ones,
which it imports at its first call: half a second of every new process, in its first step, or of a
survivor in the middle of a recovery. The engine below compares them too.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import GradientEdge, _engine_run_backward


def grad(
    outputs: Sequence[Tensor | GradientEdge],
    inputs: Sequence[Tensor | GradientEdge],
    grad_outputs: Sequence[Tensor],
    retain_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """As ``torch.autograd.grad``, where each output has a gradient.

    Raises:
        RuntimeError: a gradient has another shape than its output, or an input was not used and
            must not be so.
    """
    return _engine_run_backward(
        tuple(outputs),
        tuple(grad_outputs),
        retain_graph,
        False,  # no graph of the derivative
        tuple(inputs),
        allow_unused,
        accumulate_grad=False,
    )
