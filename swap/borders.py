"""Tells the observer which module runs, so that names of saved tensors start anew in each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
# Called with the root's arguments when its forward begins.
OnRoot = Callable[[tuple[Any, ...], dict[str, Any]], None]


def borders(model: nn.Module) -> list[str]:
    """Qualified names of the modules that are segments of their own; the root first.

    Those that have parts, and those that stand in a container: blocks, experts, layers.
    """
    named = dict(model.named_modules())
    names = [""]
    for name, module in named.items():
        parent = named.get(name.rpartition(".")[0])
        listed = isinstance(parent, CONTAINERS) and not isinstance(module, CONTAINERS)
        parts = next(module.children(), None) is not None
        calls = not isinstance(module, nn.ModuleList | nn.ModuleDict)
        if name and calls and (listed or parts):
            names.append(name)
    return names


class Borders:
    """Hooks on the modules at :func:`borders`; their numbers are the positions in ``names``."""

    def __init__(self, model: nn.Module, on_root: OnRoot) -> None:
        native = importlib.import_module("ithaca._C")
        self.names = borders(model)
        named = dict(model.named_modules())
        self._handles: list[RemovableHandle] = []
        for number, name in enumerate(self.names):
            self._watch(named[name], number, native, on_root)

    def _watch(self, module: nn.Module, number: int, native: ModuleType, on_root: OnRoot) -> None:
        enter, leave = native.enter, native.leave

        def begin(_module: nn.Module, _args: object) -> None:
            enter(number)

        def begin_root(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            on_root(args, kwargs)
            enter(0)

        def end(_module: nn.Module, _args: object, _output: object) -> None:
            leave()

        if number == 0:
            handle = module.register_forward_pre_hook(begin_root, prepend=True, with_kwargs=True)
        else:
            handle = module.register_forward_pre_hook(begin, prepend=True)
        self._handles += [handle, module.register_forward_hook(end, always_call=True)]

    def close(self) -> None:
        """Takes all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
