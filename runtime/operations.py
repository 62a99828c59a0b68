"""Counts floating-point operations of what is called under it, from shapes.

torch's own counter knows more operators, but loading it takes seconds; a layout needs proportions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_PRODUCTS = {"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm"}
_ATTENTION = "scaled_dot_product_attention"
_FILLS = {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_"}


class CountOperations(TorchFunctionMode):
    """Adds up ``flops`` of matrix products, convolutions and attention, one per other element.

    A product of [.., n] with anything to [.., m] counts 2 n per element of its output; attention
    counts its two products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what any function of torch returns
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.flops += _operations(getattr(func, "__name__", ""), args, result)
        return result


class WithoutValues(TorchFunctionMode):
    """Leaves out filling tensors without memory with random numbers: a slow way to do nothing."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what any function of torch returns
        named = kwargs or {}
        tensor = named.get("tensor", args[0] if args else None)
        fills = getattr(func, "__name__", "") in _FILLS
        if fills and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **named)


def _operations(name: str, args: tuple[Any, ...], result: Tensor) -> int:
    known = [argument for argument in args if isinstance(argument, Tensor)]
    if name in _PRODUCTS and known:
        factor = known[1] if name in ("addmm", "baddbmm") and len(known) > 1 else known[0]
        return 2 * result.numel() * factor.shape[-1]
    if name.startswith("conv") and len(known) > 1:
        return 2 * result.numel() * known[1][0].numel()
    if name == _ATTENTION and len(known) > 1:
        query, key = known[:2]
        return 4 * query.numel() * key.shape[-2]
    return result.numel()
