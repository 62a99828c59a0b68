"""Attention against a plain reference; grouped queries against repeated heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ithaca.workloads.lm.attention import Attention
from ithaca.workloads.lm.rotary import rotary_table, rotate


def reference(module: Attention, x: Tensor) -> Tensor:
    """One head of one sequence at a time, in full matrices."""
    table = rotary_table(module.context, module.head_dim, module.rope_base, x.device)
    result = []
    for sequence in x:
        heads = []
        for h in range(module.query.out_features // module.head_dim):
            own = slice(h * module.head_dim, (h + 1) * module.head_dim)
            k = h // module.groups
            shared = slice(k * module.head_dim, (k + 1) * module.head_dim)
            query = rotate(sequence @ module.query.weight[own].T, table)
            key = rotate(sequence @ module.key.weight[shared].T, table)
            scores = query @ key.T / module.head_dim**0.5
            future = torch.ones_like(scores).triu(1).bool()
            weights = scores.masked_fill(future, float("-inf")).softmax(-1)
            heads.append(weights @ (sequence @ module.value.weight[shared].T))
        result.append(torch.cat(heads, -1) @ module.output.weight.T)
    return torch.stack(result)


def differs(module: Attention, x: Tensor) -> bool:
    """Whether outputs or gradients differ from the reference beyond rounding."""
    outputs = [f(x) for f in (module, lambda x: reference(module, x))]
    grads = [torch.autograd.grad(out.square().sum(), list(module.parameters())) for out in outputs]
    pairs = [tuple(outputs), *zip(*grads, strict=True)]
    return not all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in pairs)


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (4, 2), (6, 1), (1, 1)])
def test_it_equals_the_reference(num_heads: int, num_kv_heads: int) -> None:
    torch.manual_seed(1)
    module = Attention(24, num_heads, num_kv_heads, context=16, rope_base=100.0)
    assert not differs(module, torch.randn(2, 9, 24))


@pytest.mark.parametrize("change", ["future", "groups"])
def test_the_reference_sees_a_fault(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    right = F.scaled_dot_product_attention

    def wrong(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, enable_gqa: bool) -> Tensor:
        if change == "future":
            return right(q, k, v, is_causal=False, enable_gqa=enable_gqa)
        result: Tensor = right(q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1), is_causal=is_causal)
        return result

    monkeypatch.setattr(F, "scaled_dot_product_attention", wrong)
    torch.manual_seed(1)
    module = Attention(24, 4, 2, context=16, rope_base=100.0)
    assert differs(module, torch.randn(2, 9, 24))


def test_grouped_queries_are_repeated_heads() -> None:
    torch.manual_seed(1)
    grouped = Attention(32, 4, 2, context=8, rope_base=100.0)
    plain = Attention(32, 4, 4, context=8, rope_base=100.0)
    plain.load_state_dict(
        {
            "query.weight": grouped.query.weight,
            "output.weight": grouped.output.weight,
            "key.weight": repeated(grouped.key.weight),
            "value.weight": repeated(grouped.value.weight),
        }
    )
    x = torch.randn(3, 8, 32)
    torch.testing.assert_close(grouped(x), plain(x))


def repeated(weight: Tensor) -> Tensor:
    """Each head of a key or value projection twice in a row."""
    return weight.view(2, 8, 32).repeat_interleave(2, 0).flatten(0, 1)
