"""What a step would need, from shapes alone: the model runs on tensors without bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from ithaca.swap.errors import Unsupported
from ithaca.swap.size import show_bytes

# An operator of a loss over the model's outputs has about so many tensors of their size.
LOSS_OPERANDS = 3
# A node of autograd holds more than one operator's operands: a product of three tensors has five in
# its backward. With a disk, those that the operator at hand does not use leave in their place, if
# they are large enough; without one, and below that, they stay. And operators allocate inside
# themselves.
WORKSPACE, HELD = 1.1, 1.75
LEAVES_BYTES = 128 << 10


@dataclass(frozen=True)
class Shapes:
    """Arguments of a call, with meta tensors in place of tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Bytes of torch's allocator in a step.

    Args:
        parameter_bytes: parameters and buffers.
        gradient_bytes: one gradient for each parameter that gets one.
        saved_bytes: what autograd saves, each storage once, parameters not counted.
        operator_bytes: operands and results of the largest operator, parameters not counted.
    """

    parameter_bytes: int
    gradient_bytes: int
    saved_bytes: int
    operator_bytes: int

    @property
    def unlimited_bytes(self) -> int:
        """Roughly what a step takes with no memory saving, before any optimizer state."""
        return self.parameter_bytes + self.gradient_bytes + self.saved_bytes + self.operator_bytes

    @property
    def smallest_bytes(self) -> int:
        """A budget that suffices when everything else is away, on a disk."""
        return self.smallest(disk=True)

    def smallest(self, *, disk: bool) -> int:
        """The same; without a disk, what the program holds stays in memory."""
        leaves = disk and self.operator_bytes >= 3 * LEAVES_BYTES
        held = int(self.operator_bytes * (WORKSPACE if leaves else HELD))
        return self.parameter_bytes + self.gradient_bytes + held

    def __str__(self) -> str:
        parts = (
            ("parameters", self.parameter_bytes),
            ("gradients", self.gradient_bytes),
            ("saved for backward", self.saved_bytes),
            ("largest operator", self.operator_bytes),
            ("unlimited", self.unlimited_bytes),
            ("smallest budget", self.smallest_bytes),
        )
        return "\n".join(f"{name:<20}{show_bytes(size):>12}" for name, size in parts)


def shapes_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    """The arguments as meta tensors; nothing of their data is kept."""

    def meta(part: Any) -> Any:  # noqa: ANN401
        if not isinstance(part, Tensor) or part.layout is not torch.strided:
            return part
        empty = torch.empty_like(part, device="meta")
        return empty.requires_grad_(part.requires_grad and part.dtype.is_floating_point)

    return Shapes(tree_map(meta, args), tree_map(meta, kwargs))


class _Operands(TorchDispatchMode):
    """The most bytes that one operator touches."""

    def __init__(self, resident: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._resident = {tensor.untyped_storage()._cdata for tensor in resident}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Runs ``func`` and counts its operands and results."""
        result = func(*args, **(kwargs or {}))
        touched = {}
        for part in tree_iter((args, kwargs, result)):
            if isinstance(part, Tensor) and part.layout is torch.strided:
                storage = part.untyped_storage()
                if storage._cdata not in self._resident:
                    touched[storage._cdata] = storage.nbytes()
        self.most = max(self.most, sum(touched.values()))
        return result


def estimate(model: nn.Module, shapes: Shapes) -> Estimate:
    """Runs forward and backward of ``model`` with shapes alone; no parameter is read or changed.

    Raises:
        Unsupported: the model's operators depend on values, or cannot run without them.
    """
    fake = FakeTensorMode()

    def without_bytes(part: Any) -> Any:  # noqa: ANN401
        if not isinstance(part, Tensor):
            return part
        with fake:
            empty = torch.empty_strided(part.shape, part.stride(), dtype=part.dtype, device="cpu")
        return empty.requires_grad_(part.requires_grad)

    held = {
        name: without_bytes(tensor)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    args, kwargs = tree_map(without_bytes, (shapes.args, shapes.kwargs))
    saved: dict[int, tuple[int, Tensor]] = {}
    resident = {tensor.untyped_storage()._cdata for tensor in held.values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in resident:
            saved[storage._cdata] = (storage.nbytes(), tensor.detach())
        return tensor.detach()

    operands = _Operands(held.values())
    try:
        with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor), fake, operands:
            output = functional_call(model, held, args, kwargs)
            results = [
                part
                for part in tree_iter(output)
                if isinstance(part, Tensor) and part.requires_grad
            ]
            if results:
                torch.autograd.backward([part.sum() for part in results])
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        raise Unsupported(
            f"this model cannot be estimated by shapes alone, it needs values: {error}"
        ) from error
    loss = LOSS_OPERANDS * max((part.untyped_storage().nbytes() for part in results), default=0)
    return Estimate(
        parameter_bytes=sum(_nbytes(tensor) for tensor in held.values()),
        gradient_bytes=sum(_nbytes(part) for part in held.values() if part.requires_grad),
        saved_bytes=sum(nbytes for nbytes, _ in saved.values()),
        operator_bytes=max(operands.most, loss),
    )


def _nbytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
