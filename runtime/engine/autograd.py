"""Forward and backward of one layer on one micro-batch, between two cuts.

At every layer boundary activations and gradients are detached, contiguous, and start an aligned
allocation of their own, whether or not a worker boundary lies there. So one micro-batch's
computation is the same wherever the cuts between workers fall (I4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ithaca.runtime.engine.gradient import grad
from ithaca.runtime.engine.split_backward import stage_backward_input, stage_backward_weight
from ithaca.runtime.workload import Value, like, tensors


def cut(tensor: Tensor) -> Tensor:
    """``tensor`` without history, contiguous, at the start of its own storage."""
    tensor = tensor.detach()
    whole = tensor.storage_offset() == 0 and tensor.is_contiguous()
    if whole and tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def cut_value(value: Value) -> Value:
    """:func:`cut` of every tensor."""
    return like(value, [cut(tensor) for tensor in tensors(value)])


def own(gradients: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """:func:`cut` of every tensor, none in the memory of another one or of ``others``.

    Autograd may hand out one tensor as the gradient of several, or an incoming gradient itself.
    Gradients of weights are summed in place, so each needs memory that nothing else refers to.
    """
    taken = {tensor.untyped_storage().data_ptr() for tensor in others}
    owned = []
    for gradient in map(cut, gradients):
        where = gradient.untyped_storage().data_ptr()
        owned.append(gradient.clone() if where in taken else gradient)
        taken.add(where)
    return owned


def leaves(value: Value) -> Value:
    """Inputs of a layer: detached, and asking for gradients where they are floating."""
    return like(
        value,
        [t.detach().requires_grad_(t.is_floating_point()) for t in tensors(value)],
    )


@dataclass(slots=True)
class Trace:
    """What a forward left for its backward.

    Attributes:
        inputs: the layer's input leaves.
        roots: tensors that the gradient starts from: outputs, or the loss, and the layer's own
            loss behind them.
        own_weight: gradient of the layer's own loss; None if it has none.
        deferred: between I and W, what W starts from.
        single: the input is one tensor, not a tuple of them.
        finished: ``deferred`` holds the weight gradients themselves, from a fused backward.
    """

    inputs: tuple[Tensor, ...]
    roots: list[Tensor]
    own_weight: float | None = None
    deferred: Any = None
    finished: bool = False
    single: bool = True

    @property
    def owes_weights(self) -> bool:
        """Whether I is done and W is not."""
        return self.deferred is not None

    def seeds(self, gradients: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Roots that have a history, and the gradient of each."""
        given = list(gradients)
        if self.own_weight is not None:
            given.append(torch.full_like(self.roots[-1], self.own_weight))
        pairs = [
            (root, gradient)
            for root, gradient in zip(self.roots, given, strict=True)
            if root.requires_grad
        ]
        return [root for root, _ in pairs], [gradient for _, gradient in pairs]


def backward(
    trace: Trace, gradients: Sequence[Tensor], weights: Sequence[Tensor], keep: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """B: gradients of the inputs that ask for them, and of ``weights``; zero where unused.

    ``keep`` leaves the history in place for another pass.
    """
    wanted = [tensor for tensor in trace.inputs if tensor.requires_grad]
    roots, seeds = trace.seeds(gradients)
    found = _grad(roots, [*wanted, *weights], seeds, keep)
    inputs = [cut(gradient) for gradient in found[: len(wanted)]]
    return inputs, own(found[len(wanted) :], [*seeds, *inputs])


def backward_input(
    trace: Trace, gradients: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor]:
    """I: gradients of the inputs; what W needs stays in ``trace.deferred``.

    The method is Zero Bubble's (arXiv 2401.10241): the pass stops where paths to weights leave
    the paths to inputs, and keeps the gradients that arrived there.
    """
    wanted = [tensor for tensor in trace.inputs if tensor.requires_grad]
    roots, seeds = trace.seeds(gradients)
    if not wanted:
        trace.deferred = (roots, seeds)
        return []
    found, groups = stage_backward_input(roots, seeds, wanted, _parameters(weights))
    trace.deferred = groups
    for tensor in wanted:
        tensor.grad = None
    return [
        cut(torch.zeros_like(tensor) if gradient is None else gradient)
        for tensor, gradient in zip(wanted, found, strict=True)
    ]


def backward_weight(trace: Trace, weights: Sequence[Tensor]) -> list[Tensor]:
    """W: gradients of ``weights`` from where I stopped; zero where unused."""
    if isinstance(trace.deferred, tuple):
        roots, seeds = trace.deferred
        return own(_grad(roots, list(weights), seeds), seeds)
    groups = [group for group in trace.deferred if "grads" in group]
    arrived = [g for group in groups for grads in group["grads"] for g in grads if g is not None]
    stage_backward_weight(_parameters(weights), groups)
    # The result lies on the weights; what the function returns was there before it.
    found = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    for weight in weights:
        weight.grad = None
    return own(found, arrived)


def _parameters(weights: Sequence[Tensor]) -> Iterator[nn.Parameter]:
    return (weight for weight in weights if isinstance(weight, nn.Parameter))


@dataclass(frozen=True, slots=True)
class Trial:
    """B of a layer, and beside it I and W on the same trace.

    Attributes:
        exact: I and W give the bits of B.
        inputs: gradients of the inputs, by B.
        weights: gradients of the weights, by B.
        seconds: of B, I and W; where the two parts are of no use I is all of B.
        reason: why the parts could not be computed; empty if they were.
    """

    exact: bool
    inputs: list[Tensor]
    weights: list[Tensor]
    seconds: tuple[float, float, float]
    reason: str = ""


def try_split(trace: Trace, gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> Trial:
    """B of a layer, and whether its backward may be split: I and W are checked against it.

    The history of ``trace`` is used up.
    """
    began = time.perf_counter()
    inputs, found = backward(trace, gradients, weights, keep=True)
    fused = time.perf_counter()
    fused_s = fused - began
    probe = Trace(trace.inputs, list(trace.roots), trace.own_weight)
    try:
        split = backward_input(probe, gradients, weights)
        between = time.perf_counter()
        split += backward_weight(probe, weights)
    except Exception as error:
        # Its graph cannot be cut (in-place views), or a function of its own can go back only
        # once: whatever it raises, the layer keeps B, which is done.
        for tensor in (*trace.inputs, *weights):
            tensor.grad = None
        reason = f"{type(error).__name__}: {error}"
        return Trial(False, inputs, found, (fused_s, fused_s, 0.0), reason)
    ended = time.perf_counter()
    pairs = zip([*inputs, *found], split, strict=True)
    exact = all(torch.equal(one, other) for one, other in pairs)
    parts = (between - fused, ended - between) if exact else (fused_s, 0.0)
    return Trial(exact, inputs, found, (fused_s, *parts))


def _grad(
    roots: Sequence[Tensor],
    wanted: Sequence[Tensor],
    seeds: Sequence[Tensor],
    keep: bool = False,
) -> list[Tensor]:
    """Gradients of ``wanted``, zeros where there are none."""
    if not roots or not wanted:
        return [torch.zeros_like(tensor) for tensor in wanted]
    found = grad(roots, wanted, seeds, keep, allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(wanted, found, strict=True)
    ]
