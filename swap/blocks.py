"""Blocks whose saved tensors are dropped in the forward and computed again for the backward.

As torch.utils.checkpoint does it, but decided anew in every step, tensor by tensor, and with
what is computed again in the vault's care: it may leave memory while backward works its way to it.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.hooks import RemovableHandle

from ithaca.swap.allocator import operators
from ithaca.swap.borders import CONTAINERS
from ithaca.swap.device import device_of, random_state, set_random_state
from ithaca.swap.errors import Unsupported

# Buffers up to this size are kept as they were before the forward, which may change them.
SMALL_BUFFER = 1 << 20


@dataclass(frozen=True)
class BlockRun:
    """One run of a block: its module's name, micro-batch slot, and how often it ran before."""

    module: str
    slot: int
    visit: int

    def __str__(self) -> str:
        return f"{self.module}/m{self.slot}.{self.visit}"


class _AllThere(Exception):
    """Ends a replay as soon as everything that is wanted is there."""


class Placeholder:
    """Stands in autograd's graph for a tensor that is computed again."""

    __slots__ = ("__weakref__", "frame", "hollow", "value")

    def __init__(self, frame: Frame, hollow: Tensor) -> None:
        self.frame, self.hollow = frame, hollow
        self.value: Tensor | None = None


class Frame:
    """One run of a block whose saved tensors were dropped: what is needed to run it again."""

    def __init__(
        self,
        module: nn.Module,
        name: str,
        device: torch.device,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._native = importlib.import_module("ithaca._C")
        self._module, self._name, self._device = module, name, device
        self._inputs = tree_map(self._keep, (args, kwargs))
        self._random = random_state(device)
        self._autocast = (
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
            torch.is_autocast_cache_enabled(),
        )
        self._buffers = {
            key: buffer.detach().clone() if buffer.nbytes <= SMALL_BUFFER else buffer._version
            for key, buffer in module.named_buffers()
        }
        # In the order of the saves; None for what was packed as usual.
        self._saved: list[weakref.ref[Placeholder] | None] = []
        self._next = 0

    def _keep(self, part: Any) -> Any:  # noqa: ANN401
        if not isinstance(part, Tensor):
            return part
        return _Input(self._native.hold(part), part.requires_grad)

    # --- in the forward ---

    def pack(self, tensor: Tensor) -> Tensor | Placeholder:
        """Drops what can be computed again."""
        hollow = self._native.note(tensor)
        if hollow is None:
            self._saved.append(None)
            packed: Tensor = self._native.pack(tensor)
            return packed
        placeholder = Placeholder(self, hollow)
        self._saved.append(weakref.ref(placeholder))
        return placeholder

    def check_buffers(self) -> None:
        """After the forward: large buffers have to be as they were before it."""
        for key, buffer in self._module.named_buffers():
            before = self._buffers.get(key)
            if isinstance(before, int) and buffer._version != before:
                raise Unsupported(
                    f"{self._name}.{key}: the forward changes a buffer of {buffer.nbytes} bytes, "
                    "so that it cannot be run again; open the session with recompute=False"
                )

    # --- in the backward ---

    def unpack(self, packed: Tensor | Placeholder) -> Tensor:
        """The tensor, computed again if it was dropped."""
        if not isinstance(packed, Placeholder):
            kept: Tensor = self._native.unpack(packed)
            return kept
        self._native.used(packed.hollow)
        if packed.value is None:
            self._replay()
        if packed.value is None:
            raise RuntimeError(
                f"block {self._name} did not save the same tensors when it ran again: its forward "
                "is not a function of its inputs and the random state; open the session with "
                "recompute=False"
            )
        value: Tensor = self._native.unpack(packed.value)
        return value

    def _replay(self) -> None:
        operators().memory_replay(True)
        try:
            args, kwargs = tree_map(self._given, self._inputs)
            self._next = 0
            with self._as_it_was(), saved_tensors_hooks(self._refill, self._native.unpack):
                try:
                    self._module.forward(*args, **kwargs)
                except _AllThere:
                    return
        finally:
            operators().memory_replay(False)

    def _given(self, part: Any) -> Any:  # noqa: ANN401
        if not isinstance(part, _Input):
            return part
        tensor: Tensor = self._native.unpack(part.packed).detach()
        return tensor.requires_grad_(part.requires_grad)

    def _refill(self, tensor: Tensor) -> Tensor:
        place, self._next = self._next, self._next + 1
        known = self._saved[place] if place < len(self._saved) else None
        packed: Tensor = self._native.pack(tensor)
        placeholder = known() if known is not None else None
        if placeholder is not None and placeholder.value is None:
            hollow = placeholder.hollow
            if hollow.shape != tensor.shape or hollow.dtype != tensor.dtype:
                raise RuntimeError(
                    f"block {self._name} saved {tensor.dtype}{list(tensor.shape)} when it ran "
                    f"again, and {hollow.dtype}{list(hollow.shape)} before: its forward is not a "
                    "function of its inputs and the random state; open the session with "
                    "recompute=False"
                )
            placeholder.value = packed
        if not any(self._wanted(place + 1)):
            raise _AllThere
        return packed

    def _wanted(self, start: int) -> Iterator[bool]:
        for reference in self._saved[start:]:
            placeholder = reference() if reference is not None else None
            if placeholder is not None and placeholder.value is None:
                yield True

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Random state, autocast and buffers of the forward; the present ones come back after."""
        now = random_state(self._device)
        enabled, dtype, cached = self._autocast
        places = [
            (module, key, buffer)
            for module in self._module.modules()
            for key, buffer in module._buffers.items()
            if buffer is not None
        ]
        before = {
            id(buffer): self._buffers[key]
            for key, buffer in self._module.named_buffers()
            if isinstance(self._buffers[key], Tensor)
        }
        set_random_state(self._random, self._device)
        try:
            for module, key, buffer in places:
                kept = before.get(id(buffer))
                if isinstance(kept, Tensor):
                    module._buffers[key] = kept.clone()
            with (
                torch.enable_grad(),
                torch.autocast(
                    self._device.type, dtype=dtype, enabled=enabled, cache_enabled=cached
                ),
            ):
                yield
        finally:
            for module, key, buffer in places:
                module._buffers[key] = buffer
            set_random_state(now, self._device)


@dataclass(frozen=True)
class _Input:
    """A tensor among a block's arguments, in the vault's care."""

    packed: Tensor
    requires_grad: bool


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules that have parts and stand in a container, by qualified name."""
    named = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for name, module in named.items():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        listed = isinstance(named.get(name.rpartition(".")[0]), CONTAINERS)
        has_parts = next(module.children(), None) is not None
        if name and listed and has_parts and not isinstance(module, CONTAINERS) and not inside:
            found[name] = module
    return found


class Blocks:
    """Hooks on the blocks of a model.

    Args:
        model: whose blocks.
        slot: the micro-batch slot that runs now.
        wanted: whether the saved tensors of a run are dropped.
    """

    def __init__(
        self, model: nn.Module, slot: Callable[[], int], wanted: Callable[[BlockRun], bool]
    ) -> None:
        self._slot, self._wanted, self._device = slot, wanted, device_of(model)
        self._visits: dict[tuple[str, int], int] = {}
        self._active: tuple[nn.Module, Frame, saved_tensors_hooks] | None = None
        self._replaying = False
        # Of this step: the names of the storages that each run has as inputs.
        self.inputs: dict[BlockRun, tuple[int, ...]] = {}
        self._handles: list[RemovableHandle] = []
        for name, module in blocks(model).items():
            self._handles += [
                module.register_forward_pre_hook(self._before(name), with_kwargs=True),
                module.register_forward_hook(
                    self._after(name), prepend=True, with_kwargs=True, always_call=True
                ),
            ]

    def begin_step(self) -> None:
        """Counts runs anew."""
        self.leave()
        self._visits.clear()
        self.inputs.clear()

    def _before(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not torch.is_grad_enabled():
                return
            self.leave()  # of a run that ended in an exception
            slot = self._slot()
            visit = self._visits.get((name, slot), 0)
            self._visits[name, slot] = visit + 1
            if self._wanted(BlockRun(name, slot, visit)):
                frame = Frame(module, name, self._device, args, kwargs)
                hooks = saved_tensors_hooks(frame.pack, frame.unpack)
                hooks.__enter__()
                self._active = (module, frame, hooks)

        return before

    def _after(self, name: str) -> Callable[..., None]:
        def after(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: object
        ) -> None:
            if not torch.is_grad_enabled():
                return
            frame = self._active[1] if self._active and self._active[0] is module else None
            self.leave()
            if frame is not None:
                frame.check_buffers()
            slot = self._slot()
            run = BlockRun(name, slot, self._visits.get((name, slot), 1) - 1)
            key_of = operators().memory_key_of
            keys = [key_of(part) for part in tree_iter((args, kwargs)) if isinstance(part, Tensor)]
            self.inputs[run] = tuple(key for key in keys if key != -1)

        return after

    def leave(self) -> None:
        """Ends the region of the block that runs, if one does."""
        active, self._active = self._active, None
        if active is not None:
            active[2].__exit__()

    def close(self) -> None:
        """Takes the hooks away."""
        self.leave()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
