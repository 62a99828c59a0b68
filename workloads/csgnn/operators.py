"""Our operators in C++, ``torch.ops.ithaca``."""

from __future__ import annotations

import importlib
from typing import Any

import torch


def operators() -> Any:  # noqa: ANN401
    """``torch.ops.ithaca``, registered by loading the extension."""
    importlib.import_module("ithaca._C")
    return torch.ops.ithaca
