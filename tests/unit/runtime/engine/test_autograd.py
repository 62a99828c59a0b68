"""Cuts, and the backward of one layer in one or in two parts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ithaca.runtime.engine import autograd
from ithaca.runtime.engine.autograd import (
    Trace,
    backward,
    backward_input,
    backward_weight,
    cut,
    cut_value,
    leaves,
    own,
    try_split,
)
from ithaca.runtime.workload import Value, WithLoss, tensors
from tests.helpers.limited_process import printed
from tests.helpers.small_models import DIM, KINDS, LENGTH


def memory(tensor: Tensor) -> int:
    """Where the storage of ``tensor`` lies."""
    return tensor.untyped_storage().data_ptr()


BASE = torch.arange(48.0).reshape(4, 12)


@pytest.mark.parametrize(
    "tensor",
    [BASE[1:3], BASE[:2], BASE.t(), BASE[:, ::2], BASE[0].expand(3, 12), BASE[0, 0], BASE[:0]],
    ids=["offset", "front", "turned", "strided", "expanded", "scalar", "empty"],
)
def test_a_cut_is_contiguous_aligned_and_alone(tensor: Tensor) -> None:
    found = cut(tensor)
    assert torch.equal(found, tensor)
    assert found.is_contiguous()
    assert found.storage_offset() == 0
    assert found.data_ptr() % 64 == 0
    assert found.untyped_storage().nbytes() == found.nbytes
    assert found.numel() == 0 or memory(found) != memory(BASE)


def test_a_cut_of_a_whole_tensor_copies_nothing_and_drops_the_history() -> None:
    whole = BASE.clone().requires_grad_() * 2
    found = cut(whole)
    assert found.data_ptr() == whole.data_ptr()
    assert not found.requires_grad
    assert isinstance(cut_value((whole, BASE[1:])), tuple)


def test_leaves_ask_for_gradients_where_they_can() -> None:
    number = torch.arange(3)
    given = leaves((BASE, number))
    assert [t.requires_grad for t in tensors(given)] == [True, False]
    assert all(t.is_leaf for t in tensors(given))
    assert not BASE.requires_grad


def test_owned_gradients_share_no_memory() -> None:
    incoming, one = torch.ones(3), torch.full((3,), 2.0)
    given = [incoming, one, one, torch.zeros(()).expand(3), torch.ones(2, 2).t()]
    found = own(given, [incoming])
    assert all(map(torch.equal, found, given))
    assert all(tensor.is_contiguous() for tensor in found)
    places = [memory(tensor) for tensor in [*found, incoming]]
    assert len(set(places)) == len(places)
    assert memory(found[1]) == memory(one), "nothing is copied without need"


class Twice(nn.Module):
    """Uses a weight twice, and one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(DIM, DIM) / 4)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight) @ self.weight


LAYERS: dict[str, Callable[[], nn.Module]] = {
    **KINDS,
    "twice": Twice,
    "linear": lambda: nn.Linear(DIM, DIM),
    "layer norm": lambda: nn.LayerNorm(DIM),
    "gru": lambda: nn.Sequential(nn.GRU(DIM, DIM, batch_first=True), First()),
    "convolution": lambda: nn.Conv1d(LENGTH, LENGTH, 3, padding=1),
    "attention": lambda: nn.TransformerEncoderLayer(DIM, 2, 32, batch_first=True),
}


class First(nn.Module):
    """The first of several outputs."""

    def forward(self, value: tuple[Tensor, ...]) -> Tensor:
        return value[0]


def inputs_of(kind: str) -> Value:
    """What a layer of ``kind`` is called with."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, LENGTH, DIM, generator=generator)
    return (x, x.flip(0), x.argmax(-1)) if kind == "unpair" else x


def forward(module: nn.Module, kind: str) -> tuple[Trace, list[Tensor]]:
    """The trace of a forward, and gradients of its outputs."""
    torch.manual_seed(3)
    value = leaves(inputs_of(kind))
    out = module(value)
    weight = None
    own_loss: list[Tensor] = []
    if isinstance(out, WithLoss):
        out, loss = out
        own_loss, weight = [loss.clone()], 7.0
    roots = [t.clone() if t._is_view() else t for t in tensors(out) if t.is_floating_point()]
    generator = torch.Generator().manual_seed(9)
    gradients = [torch.randn(t.shape, generator=generator) for t in roots]
    return Trace(tensors(value), [*roots, *own_loss], weight), gradients


@pytest.mark.parametrize("kind", LAYERS)
def test_the_split_backward_has_the_bits_of_the_fused_one(kind: str) -> None:
    module = LAYERS[kind]()
    weights = list(module.parameters())
    trace, gradients = forward(module, kind)
    expected = backward(trace, gradients, weights)
    trace, gradients = forward(module, kind)
    trial = try_split(trace, gradients, weights)
    assert trial.exact
    assert all(map(torch.equal, trial.inputs, expected[0]))
    assert all(map(torch.equal, trial.weights, expected[1]))
    trace, gradients = forward(module, kind)
    given = [gradient.clone() for gradient in gradients]
    found = backward_input(trace, gradients, weights), backward_weight(trace, weights)
    for mine, theirs in zip(found, expected, strict=True):
        assert len(mine) == len(theirs)
        assert all(map(torch.equal, mine, theirs))
    assert all(map(torch.equal, gradients, given)), "incoming gradients were changed"
    assert all(weight.grad is None for weight in weights)


def test_unused_weights_get_zeros() -> None:
    module = Twice()
    trace, gradients = forward(module, "twice")
    _, (used, unused) = backward(trace, gradients, list(module.parameters()))
    assert used.count_nonzero() > 0
    assert torch.equal(unused, torch.zeros(3))


def test_a_backward_waits_for_no_library_of_symbolic_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its import takes half a second, in a first step or in the middle of a recovery."""
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)
    module = nn.Linear(DIM, DIM)
    weights = list(module.parameters())
    trace, gradients = forward(module, "")
    with pytest.raises(ImportError):
        torch.autograd.grad(trace.roots, weights, gradients, retain_graph=True)
    _, whole = backward(trace, gradients, weights, keep=True)
    backward_input(trace, gradients, weights)
    parts = backward_weight(trace, weights)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_a_gradient_of_another_shape_is_refused() -> None:
    trace, (gradient,) = forward(nn.Linear(DIM, DIM), "")
    with pytest.raises(RuntimeError, match="shape"):
        backward(trace, [gradient[:1]], [])


def test_the_first_layer_has_no_input_gradients() -> None:
    module = nn.Embedding(5, 3)
    symbols, gradient = torch.tensor([1, 3, 1]), torch.ones(3, 3)
    fused = backward(Trace((symbols,), [module(symbols)]), [gradient], list(module.parameters()))
    trace = Trace((symbols,), [module(symbols)])
    assert backward_input(trace, [gradient], list(module.parameters())) == [] == fused[0]
    (found,) = backward_weight(trace, list(module.parameters()))
    assert torch.equal(found, fused[1][0])
    assert found[:, 0].tolist() == [0, 2, 0, 1, 0]


def test_the_own_loss_is_weighted() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    x = torch.tensor([3.0], requires_grad=True)
    trace = Trace((x,), [x * weight, (weight * weight).sum()], own_weight=10.0)
    inputs, (found,) = backward(trace, [torch.ones(1)], [weight])
    assert inputs[0].item() == 2.0
    assert found.item() == 3.0 + 10 * 2 * 2.0


class Recurrent(nn.Module):
    """Comes back to its weights again and again: where a cut would have to lie, paths cross."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(DIM, DIM) / 4)
        self.scale = nn.Parameter(torch.rand(DIM))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x * self.scale
        for _ in range(3):
            hidden = torch.tanh(hidden @ self.weight + hidden) * self.scale
        return hidden


class Deaf(nn.Module):
    """Does not listen to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, LENGTH, DIM))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * 2 + 0 * x.detach()


@pytest.mark.parametrize("layer", [Recurrent, Deaf])
def test_a_layer_that_cannot_be_split_is_found(layer: type[nn.Module]) -> None:
    module = layer()
    weights = list(module.parameters())
    trace, gradients = forward(module, "")
    expected = backward(trace, gradients, weights)
    trace, gradients = forward(module, "")
    trial = try_split(trace, gradients, weights)
    assert not trial.exact
    assert all(map(torch.equal, trial.inputs, expected[0]))
    assert all(map(torch.equal, trial.weights, expected[1]))
    fused_s, input_s, weight_s = trial.seconds
    assert (input_s, weight_s) == (fused_s, 0.0), "both parts are done in the first"


def test_a_graph_that_cannot_be_cut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Trace, __: list[Tensor], weights: list[Tensor]) -> None:
        weights[0].grad = torch.ones_like(weights[0])
        raise RuntimeError("this graph cannot be cut")

    module = nn.Linear(DIM, DIM)
    trace, gradients = forward(module, "")
    monkeypatch.setattr(autograd, "backward_input", fails)
    trial = try_split(trace, gradients, list(module.parameters()))
    assert not trial.exact
    assert trial.reason == "RuntimeError: this graph cannot be cut"
    assert torch.equal(trial.inputs[0], gradients[0] @ module.weight)
    assert module.weight.grad is None, "what was half done is left behind"


class Once(torch.autograd.Function):
    """Forgets what its backward needs when it has run."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        ctx.kept = weight
        return x * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's
        kept = ctx.kept
        del ctx.kept
        return gradients[0] * kept, gradients[0].sum()


def test_a_function_that_goes_back_only_once_is_found() -> None:
    weight, x = nn.Parameter(torch.tensor(3.0)), torch.ones(2, requires_grad=True)
    out = Once.apply(x, weight)  # type: ignore[no-untyped-call]
    trial = try_split(Trace((x,), [out]), [torch.ones(2)], [weight])
    assert not trial.exact
    assert trial.reason
    assert trial.inputs[0].tolist() == [3.0, 3.0]
    assert trial.weights[0].item() == 2.0


def test_a_split_that_is_almost_right_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one bit of one weight gradient decides."""

    def almost(trace: Trace, weights: list[Tensor]) -> list[Tensor]:
        found = backward_weight(trace, weights)
        found[0].view(-1)[0] = torch.nextafter(found[0].view(-1)[0], torch.tensor(torch.inf))
        return found

    module = nn.Linear(DIM, DIM)
    trace, gradients = forward(module, "")
    monkeypatch.setattr(autograd, "backward_weight", almost)
    assert not try_split(trace, gradients, list(module.parameters())).exact


SPLIT = """
import json, sys
import torch
from torch import nn
from ithaca.runtime.engine.autograd import Trace, backward_input, backward_weight, leaves
layer, x = nn.Linear(3, 3), leaves(torch.randn(2, 3))
trace = Trace((x,), [layer(x)])
backward_input(trace, [torch.ones(2, 3)], list(layer.parameters()))
backward_weight(trace, list(layer.parameters()))
print(json.dumps("torch.distributed.pipelining" in sys.modules))
"""


def test_nobody_waits_for_the_package_of_the_split_backward() -> None:
    """Its import takes a second; a survivor's first I may be in the middle of a recovery."""
    assert printed(SPLIT) is False
