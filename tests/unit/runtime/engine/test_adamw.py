"""AdamW is torch's, to the bit; rates and clipping are those of the settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ithaca.runtime.engine.adamw import LayerOptimizer
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings

SETTINGS = OptimizerSettings(1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0, "cosine", 4, 0.1, 20)
SHAPES = {"weight": (5, 7), "bias": (7,), "scale": (), "kernel": (2, 3, 4)}


def tensors(seed: int) -> list[Tensor]:
    """A tensor per shape."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES.values()]


@pytest.mark.parametrize("divisor", [1.0, 96.0, 1 / 3, 1234.5678])
def test_the_bits_are_torchs(divisor: float) -> None:
    ours = [torch.nn.Parameter(t) for t in tensors(0)]
    theirs = [torch.nn.Parameter(t) for t in tensors(0)]
    layer = LayerOptimizer(list(SHAPES), ours, SETTINGS)
    groups = [
        {"params": [w for w in theirs if w.ndim >= 2], "weight_decay": SETTINGS.weight_decay},
        {"params": [w for w in theirs if w.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=SETTINGS.betas, eps=SETTINGS.eps, fused=True)
    for step in range(4):
        rate = SETTINGS.rate(step)
        layer.step(tensors(step + 1), rate, divisor)
        for weight, gradient in zip(theirs, tensors(step + 1), strict=True):
            weight.grad = gradient / torch.tensor(divisor)
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.step()
        for name, mine, other in zip(SHAPES, ours, theirs, strict=True):
            assert torch.equal(mine, other)
            for kind, moment in adamw.state[other].items():
                assert torch.equal(layer.state()[f"{kind}.{name}"], moment)
    assert not torch.equal(ours[0], tensors(0)[0])


def test_gradients_in_any_layout_in_memory_count_alike() -> None:
    """A gradient that is laid out unlike its weight must not be read as if it were."""
    weights = [torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2)]
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for weight, given in zip(weights, (gradient, gradient.t().contiguous().t()), strict=True):
        LayerOptimizer(["weight"], [weight], SETTINGS).step([given], 0.1, 1.0)
    assert torch.equal(*weights)


def test_the_state_is_there_from_the_beginning() -> None:
    weights = [torch.nn.Parameter(t) for t in tensors(0)]
    state = LayerOptimizer(list(SHAPES), weights, SETTINGS).state()
    assert sorted(state) == sorted(
        f"{kind}.{name}" for kind in ("step", "exp_avg", "exp_avg_sq") for name in SHAPES
    )
    assert all(tensor.count_nonzero() == 0 for tensor in state.values())


def test_a_layer_without_weights() -> None:
    layer = LayerOptimizer([], [], SETTINGS)
    layer.step([], 0.1, 1.0)
    assert layer.state() == {}
