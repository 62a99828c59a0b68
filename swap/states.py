"""Optimizer state on the disk: brought in for the operators that use it, by the same optimizer.

The optimizer's own step runs, unchanged, so that the bits are those of a step without us. Where all
of its state fits beside what it needs, the state is there until it ends; otherwise a dispatch mode
around it brings in what an operator is about to use and lets go of it afterwards. State that is
away stays readable at all times, through a mapping of the file: slow, but never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle

from ithaca.swap.allocator import operators


class Paging(TorchDispatchMode):
    """While active, state tensors are in memory exactly as long as an operator uses them."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Runs ``func`` on tensors that are in memory."""
        ops = operators()
        used = [part for part in tree_iter((args, kwargs)) if isinstance(part, Tensor)]
        ops.memory_use(used)
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            ops.memory_done(used)
        if not func._schema.is_mutable:  # type: ignore[attr-defined]
            # What it makes may become state, and the first step makes all of it before any work.
            ops.memory_created([part for part in tree_iter(result) if isinstance(part, Tensor)])
        return result


class States:
    """Finds the optimizers of a model at their first step, and pages their state from then on.

    Args:
        model: only optimizers that have one of its parameters are ours.
        on_step: called before every optimizer step.
        enabled: without a disk there is nothing to page to.
    """

    def __init__(self, model: nn.Module, on_step: Callable[[], None], enabled: bool) -> None:
        self._parameters = {id(parameter) for parameter in model.parameters()}
        self._on_step, self._enabled = on_step, enabled
        self._mode: Paging | None = None
        self._stepping: int | None = None  # the optimizer
        self._handles: list[RemovableHandle] = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def _ours(self, optimizer: Optimizer) -> bool:
        return any(
            id(parameter) in self._parameters
            for group in optimizer.param_groups
            for parameter in group["params"]
        )

    def _before(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if not self._ours(optimizer):
            return
        self.leave()  # of a step that ended in an exception
        self._on_step()
        if self._enabled:
            self.adopt(optimizer)
            all_here = operators().memory_begin_optimizer(id(optimizer))
            self._stepping = id(optimizer)
            if not all_here:
                self._mode = Paging()  # type: ignore[no-untyped-call]
                self._mode.__enter__()  # type: ignore[no-untyped-call]

    def _after(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if self._stepping is not None and self._ours(optimizer):
            self.leave()
            self.adopt(optimizer)

    def adopt(self, optimizer: Optimizer) -> None:
        """Takes state that is new into our care."""
        ops = operators()
        for state in optimizer.state.values():
            for part in state.values():
                if isinstance(part, Tensor):
                    ops.memory_state(part)

    def leave(self) -> None:
        """Ends an optimizer's step, however it ended."""
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        stepping, self._stepping = self._stepping, None
        if stepping is not None:
            operators().memory_end_optimizer(stepping)

    def close(self) -> None:
        """Takes the hooks away."""
        self.leave()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the storages of ``tensors`` on the CPU or a GPU, each counted once."""
    seen: dict[int, int] = {}
    for tensor in tensors:
        if tensor is not None and tensor.layout is torch.strided and tensor.device.type != "meta":
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
    return sum(seen.values())
