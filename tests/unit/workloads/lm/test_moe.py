"""The mixture of experts against a loop over tokens, and its losses against their definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ithaca.workloads.lm import moe
from ithaca.workloads.lm.moe import MixtureOfExperts

DIM, HIDDEN, COUNT = 8, 16, 5


def mixture(top_k: int = 2, balance: float = 0.01, z: float = 0.0) -> MixtureOfExperts:
    """Five small experts with fixed weights."""
    torch.manual_seed(3)
    return MixtureOfExperts(DIM, HIDDEN, COUNT, top_k, balance, z)


def reference(module: MixtureOfExperts, x: Tensor) -> Tensor:
    """Token by token and choice by choice."""
    result = []
    for token in x.flatten(0, 1):
        scores, chosen = (module.router.weight @ token).topk(module.top_k)
        weights = scores.softmax(0)
        outputs = [module.experts[int(e)](token) for e in chosen]
        result.append(sum(w * out for w, out in zip(weights, outputs, strict=True)))
    return torch.stack(result).view_as(x)


def differs(module: MixtureOfExperts) -> bool:
    """Whether outputs or gradients differ from the reference beyond rounding."""
    x = torch.randn(2, 20, DIM, generator=torch.Generator().manual_seed(0), requires_grad=True)
    forms: list[Callable[[Tensor], Tensor]] = [
        lambda x: module(x)[0],
        lambda x: reference(module, x),
    ]
    outputs = [form(x) for form in forms]
    inputs = [x, *module.parameters()]
    grads = [
        torch.autograd.grad(out.square().sum(), inputs, allow_unused=True, materialize_grads=True)
        for out in outputs
    ]
    pairs = [tuple(outputs), *zip(*grads, strict=True)]
    return not all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in pairs)


@pytest.mark.parametrize("top_k", [1, 2, COUNT])
def test_it_equals_the_loop(top_k: int) -> None:
    assert not differs(mixture(top_k))


def test_the_loop_sees_rows_brought_back_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    right = moe._Collect.forward

    def wrong(ctx: object, rows: Tensor, places: Tensor, order: Tensor) -> Tensor:
        return right(ctx, rows, order, places)

    monkeypatch.setattr(moe._Collect, "forward", staticmethod(wrong))
    assert differs(mixture())


def test_the_loop_sees_a_wrong_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None

    monkeypatch.setattr(moe._Collect, "backward", staticmethod(wrong))
    assert differs(mixture())


def test_bits_repeat() -> None:
    results = []
    for _ in range(2):
        module = mixture()
        x = torch.randn(64, 4, DIM, generator=torch.Generator().manual_seed(0), requires_grad=True)
        value, loss = module(x)
        results.append(
            (
                value,
                loss,
                *torch.autograd.grad(value.square().sum() + loss, [x, *module.parameters()]),
            )
        )
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_an_expert_without_tokens_takes_no_part() -> None:
    module = mixture(top_k=1)
    with torch.no_grad():
        module.router.weight.zero_()
        module.router.weight[1] = 10.0
        module.router.weight[4] = -10.0
    x = torch.rand(2, 6, DIM) + 0.1  # positive, so that all choose expert 1
    value, loss = module(x)
    (value.sum() + loss).backward()
    torch.testing.assert_close(value, module.experts[1](x))
    for i, expert in enumerate(module.experts):
        for parameter in expert.parameters():
            assert (parameter.grad is None) == (i != 1)
    assert module.router.weight.grad is not None


def test_an_even_load_costs_the_coefficient() -> None:
    module = mixture(top_k=1, balance=0.3)
    with torch.no_grad():
        module.router.weight.zero_()
        module.router.weight[:, :COUNT] = 50 * torch.eye(COUNT)
    x = torch.eye(DIM)[:COUNT].repeat(4, 1)[None]  # one kind of token for each expert
    assert module(x)[1].item() == pytest.approx(0.3, rel=1e-5)
    all_alike = torch.eye(DIM)[:1].repeat(20, 1)[None]
    assert module(all_alike)[1].item() == pytest.approx(0.3 * COUNT, rel=1e-5)


def test_the_losses_follow_their_equations() -> None:
    module = mixture(top_k=2, balance=0.5, z=0.25)
    x = torch.randn(3, 7, DIM)
    logits = x.flatten(0, 1) @ module.router.weight.T
    chosen = logits.topk(2, -1).indices
    share = torch.stack([(chosen == e).float().mean() for e in range(COUNT)])
    balance = COUNT * (share * logits.softmax(-1).mean(0)).sum()
    z = logits.exp().sum(-1).log().square().mean()
    torch.testing.assert_close(module(x)[1], 0.5 * balance + 0.25 * z)


def test_the_balancing_loss_spreads_the_tokens() -> None:
    module = mixture(top_k=1, balance=1.0)
    x = torch.randn(8, 32, DIM) + 1.0
    for _ in range(40):
        loss = module(x)[1]
        (grad,) = torch.autograd.grad(loss, [module.router.weight])
        module.router.weight.data -= 0.3 * grad
    assert module(x)[1] < 1.1
    assert loss.isfinite()


def test_bf16_routes_in_fp32() -> None:
    module = mixture().bfloat16()
    x = torch.randn(2, 6, DIM).bfloat16()
    value, loss = module(x)
    assert value.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert value.data_ptr() != x.data_ptr()
