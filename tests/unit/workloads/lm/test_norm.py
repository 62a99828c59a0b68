"""RMSNorm in fp32, whatever comes in."""

from __future__ import annotations

import pytest
import torch

from ithaca.workloads.lm.norm import RMSNorm


def test_it_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(8)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 8)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bf16_is_rounded_once_at_the_end(dtype: torch.dtype) -> None:
    norm = RMSNorm(64).to(dtype)
    x = (100 * torch.randn(4, 64)).to(dtype)
    result = norm(x)
    assert result.dtype == dtype
    wide = RMSNorm(64)(x.float())
    assert torch.equal(result, wide.to(dtype))
