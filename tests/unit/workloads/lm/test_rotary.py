"""Rotary embeddings: positions enter products of queries and keys as differences."""

from __future__ import annotations

import torch

from ithaca.workloads.lm.rotary import rotary_table, rotate

CPU = torch.device("cpu")


def product(query_at: int, key_at: int) -> torch.Tensor:
    """The product of one fixed query and key at the given positions, in fp64."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 16)
    table = rotary_table(64, 16, 10_000.0, CPU)
    queries, keys = rotate(query.expand(64, 16), table), rotate(key.expand(64, 16), table)
    return queries[query_at].double() @ keys[key_at].double()


def test_products_depend_on_the_distance_alone() -> None:
    for distance in (0, 1, 7):
        reference = product(distance, 0)
        for start in (1, 20, 56):
            torch.testing.assert_close(
                product(start + distance, start), reference, atol=1e-5, rtol=0
            )
    assert abs(product(5, 0) - product(6, 0)) > 1e-3


def test_position_zero_stays_and_lengths_stay() -> None:
    x = torch.randn(2, 3, 10, 8)
    turned = rotate(x, rotary_table(32, 8, 500.0, CPU))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_pairs_are_half_a_head_apart() -> None:
    """As in the checkpoints of Llama: entry i turns with entry i + head_dim / 2."""
    x = torch.zeros(3, 8)
    x[:, 1] = 1.0
    turned = rotate(x, rotary_table(3, 8, 100.0, CPU))
    angle = torch.arange(3) * 100.0 ** (-2 / 8)
    torch.testing.assert_close(turned[:, 1], angle.cos())
    torch.testing.assert_close(turned[:, 5], angle.sin())
    assert turned[:, [0, 2, 3, 4, 6, 7]].count_nonzero() == 0


def test_angles_are_not_rounded_to_bf16() -> None:
    x = torch.randn(100, 8).bfloat16()
    table = rotary_table(100, 8, 10_000.0, CPU)
    assert rotate(x, table).dtype == torch.bfloat16
    assert torch.equal(rotate(x, table), rotate(x.float(), table).bfloat16())


def test_a_table_made_in_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        table = rotary_table(11, 4, 77.0, CPU)
    x = torch.randn(11, 4, requires_grad=True)
    rotate(x, table).sum().backward()
    assert x.grad is not None
