"""Tells the vault what the nodes of layer normalisations do not say: their epsilon.

With it, and what such a node saves, its output can be made again by the same operator.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ithaca.swap.allocator import operators


class Norms:
    """Hooks on the layer normalisations of a model whose forward is torch's own."""

    def __init__(self, model: nn.Module) -> None:
        self._handles: list[RemovableHandle] = []
        normed = operators().memory_normed

        def after(module: nn.LayerNorm, _args: object, output: object) -> None:
            # Before any other hook, which may give something else in its place.
            if isinstance(output, Tensor) and output.requires_grad:
                normed(output, module.eps)

        for module in model.modules():
            if isinstance(module, nn.LayerNorm) and type(module).forward is nn.LayerNorm.forward:
                self._handles.append(module.register_forward_hook(after, prepend=True))

    def close(self) -> None:
        """Takes all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
