"""The layers of the decoder: shapes, causality, gradients, and the same bits each time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import WithLoss
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.generate import forward
from ithaca.workloads.lm.workload import LM

SMALL = {"dim": 32, "num_layers": 2, "num_heads": 4, "context": 16, "batch_size": 2}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "grouped": {"num_kv_heads": 2},
    "experts": {"experts": {"count": 4, "top_k": 2, "z": 0.001}},
}


def build(seed: int = 0, **changes: Any) -> list[nn.Module]:  # noqa: ANN401
    """The layers, each under a seed of its own."""
    workload = LM(LMConfig.model_validate({**SMALL, **changes}), seed=0, micro_batches=1)
    modules = []
    for i, layer in enumerate(workload.layers()):
        torch.manual_seed(1000 * seed + i)
        modules.append(layer.build())
    return modules


def text(seed: int = 0) -> Tensor:
    """Two sequences of 16 bytes."""
    return torch.randint(256, (2, 16), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A variant of the model."""
    return KINDS[request.param]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shapes_and_types(kind: dict[str, Any], dtype: torch.dtype) -> None:
    modules = [module.to(dtype) for module in build(**kind)]
    value = text()
    for module in modules[:-1]:
        result = module(value)
        if isinstance(result, WithLoss):
            assert result.loss.shape == ()
            assert result.loss.dtype == torch.float32
            result = result.value
        assert result.shape == (2, 16, 32)
        assert result.dtype == dtype
        assert result._base is None
        assert result.is_contiguous()
        value = result
    assert modules[-1](value).shape == (2, 16, 256)


def looks_ahead(modules: list[nn.Module]) -> bool:
    """Whether a change of byte 9 changes the logits of any byte before it."""
    before = text()
    after = before.clone()
    after[:, 9] = (after[:, 9] + 1) % 256
    with torch.no_grad():
        difference = (forward(modules, before) - forward(modules, after)).abs().amax((0, 2))
    assert (difference[9:] > 0).all()
    return bool((difference[:9] > 1e-5).any())


def test_no_logit_sees_a_later_byte(kind: dict[str, Any]) -> None:
    assert not looks_ahead(build(**kind))


def test_looking_ahead_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = F.scaled_dot_product_attention

    def wrong(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, enable_gqa: bool) -> Tensor:
        return right(q, k, v, is_causal=False, enable_gqa=enable_gqa)

    monkeypatch.setattr(F, "scaled_dot_product_attention", wrong)
    assert looks_ahead(build())


def step_bits(seed: int, **kind: Any) -> list[Tensor]:  # noqa: ANN401
    """Logits and all gradients."""
    modules = build(seed, **kind)
    logits = forward(modules, text())
    F.cross_entropy(logits.flatten(0, 1), text(1).flatten()).backward()
    parameters = [p for module in modules for p in module.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    return [logits, *(p.grad for p in parameters if p.grad is not None)]


def test_gradients_reach_all_and_repeat_to_the_bit(kind: dict[str, Any]) -> None:
    one, same, other = (step_bits(seed, **kind) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])


def test_the_first_guess_is_even() -> None:
    loss = F.cross_entropy(forward(build(dim=128), text()).flatten(0, 1), text(1).flatten())
    assert 5.3 < loss < 6.3  # ln 256 is 5.55


def test_residual_projections_start_smaller() -> None:
    block = build(dim=128, num_layers=8)[1].state_dict()
    inner = block["attention.query.weight"].std() * 128**0.5
    outer = block["attention.output.weight"].std() * 128**0.5
    down = block["feed_forward.down.weight"]
    assert inner == pytest.approx(1, rel=0.05)
    assert outer == pytest.approx(1 / 4, rel=0.05)
    assert down.std() * down.shape[1] ** 0.5 == pytest.approx(1 / 4, rel=0.05)


def test_dropout_follows_the_default_generator() -> None:
    modules = build(dropout=0.5)
    for module in modules:
        module.train()

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return forward(modules, text())

    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))
    for module in modules:
        module.eval()
    assert torch.equal(output(1), output(2))
