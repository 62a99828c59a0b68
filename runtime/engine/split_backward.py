"""torch's split backward, without the package that it lies in.

Importing ``torch.distributed.pipelining`` takes a second of one core. A plan that splits the
backward may come in the middle of a recovery, whose survivors would all wait that long for two
functions. So their file is imported from where it lies, as a module of a package that is empty;
in this copy of it, gradients are computed by :func:`ithaca.runtime.engine.gradient.grad`.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch.distributed

from ithaca.runtime.engine.gradient import grad

_ALIAS = "ithaca_pipelining"


@cache
def _torch() -> Any:  # noqa: ANN401 - a module of torch without types
    package = ModuleType(_ALIAS)
    package.__path__ = [str(Path(torch.distributed.__file__).parent / "pipelining")]
    sys.modules[_ALIAS] = package
    copy: Any = import_module(f"{_ALIAS}._backward")
    copy.torch = _With(torch, autograd=_With(torch.autograd, grad=grad))
    return copy


class _With:
    """A module with some of its names meaning something else."""

    def __init__(self, module: ModuleType, **names: object) -> None:
        self.__dict__ |= names
        self._module = module

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        return getattr(self._module, name)


def stage_backward_input(*arguments: Any) -> Any:  # noqa: ANN401 - as torch has it
    """Gradients of the inputs, and what the weights' part needs: see torch's function."""
    return _torch().stage_backward_input(*arguments)


def stage_backward_weight(*arguments: Any) -> Any:  # noqa: ANN401 - as torch has it
    """Gradients of the weights, into ``grad``: see torch's function."""
    return _torch().stage_backward_weight(*arguments)
