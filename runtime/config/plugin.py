"""Finds workloads by name, late: looking one up imports torch, a broken file must not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ithaca.runtime.workload import Workload

_REGISTRY = "ithaca.workloads.registry"
"""By name, because workloads stand on the runtime and not the other way round."""


def find_workload(name: str) -> type[Workload]:
    """The class behind ``lm`` or ``package.module:Class``; ``ValueError`` says what is known."""
    return cast("type[Workload]", importlib.import_module(_REGISTRY).find(name))
