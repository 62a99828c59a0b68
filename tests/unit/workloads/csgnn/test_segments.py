"""Sums over segments against a plain loop, and their gradients against numeric ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ithaca.workloads.csgnn import segments
from ithaca.workloads.csgnn.segments import Incidence, segment_sum


def drawn(seed: int = 0, members: int = 60) -> tuple[Tensor, Tensor, Incidence]:
    """A table of 5 rows, 7 values, and members of 9 segments, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(9, (members,), generator=generator).sort().values
    first = torch.searchsorted(owner, torch.arange(10))
    other = torch.randint(7, (members,), generator=generator).int()
    row = torch.randint(5, (members,), generator=generator).int()
    table, values = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (5, 7))
    return table, values, Incidence.of(first, other, row, 7)


def plain(table: Tensor, values: Tensor, incidence: Incidence) -> Tensor:
    """The definition."""
    forth = incidence.forth
    sums = torch.zeros(len(forth.first) - 1, table.shape[1], dtype=table.dtype)
    for s in range(len(sums)):
        for i in range(int(forth.first[s]), int(forth.first[s + 1])):
            sums[s] = sums[s] + table[forth.row[i]] * values[forth.other[i]]
    return sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_those_of_a_loop(dtype: torch.dtype) -> None:
    table, values, incidence = drawn()
    table, values = table.to(dtype), values.to(dtype)
    assert torch.equal(segment_sum(table, values, incidence), plain(table, values, incidence))


@pytest.mark.parametrize("members", [0, 1, 60])
def test_gradients_are_right(members: int) -> None:
    table, values, incidence = drawn(1, members)
    inputs = table.requires_grad_(), values.requires_grad_()
    assert torch.autograd.gradcheck(lambda t, v: segment_sum(t, v, incidence), inputs)


def test_a_wrong_turn_is_noticed() -> None:
    """Control: members turned round with the wrong rows give another gradient."""
    table, values, incidence = drawn(2)
    back = incidence.back
    wrong = segments.Members(back.first, back.other, back.row.flip(0))
    inputs = table.requires_grad_(), values.requires_grad_()
    broken = Incidence(incidence.forth, wrong)
    assert not torch.autograd.gradcheck(
        lambda t, v: segment_sum(t, v, broken), inputs, raise_exception=False
    )


def test_only_wanted_gradients_are_made() -> None:
    table, values, incidence = drawn(3)
    segment_sum(table, values.requires_grad_(), incidence).sum().backward()
    assert table.grad is None
    assert values.grad is not None


def test_other_devices_have_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operators of torch that take the place of ours, tried on the CPU."""
    found = []
    for portable in (False, True):
        table, values, incidence = drawn(4)
        inputs = table.requires_grad_(), values.requires_grad_()
        if portable:
            monkeypatch.setattr(segments, "_sum", segments._portable_sum)
            monkeypatch.setattr(segments, "_table", segments._portable_table)
        out = segment_sum(*inputs, incidence)
        grads = torch.autograd.grad(out.square().sum(), inputs)
        found.append([out, *grads])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_sizes_that_do_not_fit_are_refused() -> None:
    table, values, incidence = drawn()
    with pytest.raises(ValueError, match="do not belong together"):
        segment_sum(table[:, :2], values, incidence)
    short = segments.Members(incidence.forth.first + 1, *list(vars(incidence.forth).values())[1:])
    with pytest.raises(ValueError, match="do not cover the 60 members"):
        segment_sum(table, values, Incidence(short, incidence.back))
