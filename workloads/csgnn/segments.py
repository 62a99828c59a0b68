"""Sums over sorted segments whose gradients do not depend on who adds up what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ithaca.workloads.csgnn.operators import operators


@dataclass(frozen=True, eq=False)
class Members:
    """Members of segments, each a value and a row of a table; in the order of the segments.

    Attributes:
        first: int64 [segments + 1], where each segment begins.
        other: int32 [members], the number of the value.
        row: int32 [members], the row of the table.
    """

    first: Tensor
    other: Tensor
    row: Tensor


@dataclass(frozen=True, eq=False)
class Incidence:
    """The same members twice: sorted by segment, and turned round, sorted by value."""

    forth: Members
    back: Members

    @staticmethod
    def of(first: Tensor, other: Tensor, row: Tensor, values: int) -> Incidence:
        """The incidence of these members with ``values`` values."""
        order = torch.argsort(other, stable=True)
        segment = torch.arange(len(first) - 1, device=first.device).repeat_interleave(first.diff())
        counts = torch.bincount(other, minlength=values)
        turned = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Incidence(
            Members(first, other, row),
            Members(turned, segment[order].int(), row[order].contiguous()),
        )


def _portable_sum(table: Tensor, values: Tensor, members: Members) -> Tensor:
    """The sum with torch's own operators, on any device; the same order of additions each time."""
    products = table[members.row.long()] * values[members.other.long()]
    return torch.segment_reduce(products, "sum", lengths=members.first.diff(), unsafe=True)


def _portable_table(grad: Tensor, values: Tensor, members: Members, rows: int) -> Tensor:
    segment = torch.arange(len(members.first) - 1, device=grad.device)
    segment = segment.repeat_interleave(members.first.diff())
    order = torch.argsort(members.row, stable=True)
    products = (grad[segment] * values[members.other.long()])[order]
    counts = torch.bincount(members.row, minlength=rows)
    return torch.segment_reduce(products, "sum", lengths=counts, unsafe=True)


def _sum(table: Tensor, values: Tensor, members: Members) -> Tensor:
    if values.device.type != "cpu":
        return _portable_sum(table, values, members)
    parts = members.first, members.other, members.row
    summed: Tensor = operators().segment_sum(table, values, *parts)
    return summed


def _table(grad: Tensor, values: Tensor, members: Members, rows: int) -> Tensor:
    if values.device.type != "cpu":
        return _portable_table(grad, values, members, rows)
    parts = members.first, members.other, members.row
    summed: Tensor = operators().segment_sum_table(grad, values, *parts, rows)
    return summed


Context: TypeAlias = Any
"""Of autograd; it has no type that says what is kept in it."""


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, table: Tensor, values: Tensor, incidence: Incidence) -> Tensor:
        table, values = table.contiguous(), values.contiguous()
        ctx.save_for_backward(table, values)
        ctx.incidence = incidence
        return _sum(table, values, incidence.forth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        table, values = ctx.saved_tensors
        grad = grad.contiguous()
        wanted = ctx.needs_input_grad
        forth, back = ctx.incidence.forth, ctx.incidence.back
        return (
            _table(grad, values, forth, len(table)) if wanted[0] else None,
            _sum(table, grad, back) if wanted[1] else None,
            None,
        )


def segment_sum(table: Tensor, values: Tensor, incidence: Incidence) -> Tensor:
    """out[s] = the sum over the members of s of table[row] * values[other], in order.

    Nothing of the size members x dim is kept, and no gradient is summed by several threads at
    once: the bits depend on the arguments alone.

    Args:
        table: [rows, dim].
        values: [values, dim], of the table's type.
        incidence: who is whose member.

    Returns:
        [segments, dim].
    """
    summed: Tensor = _SegmentSum.apply(table, values, incidence)  # type: ignore[no-untyped-call]
    return summed
