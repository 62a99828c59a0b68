"""Which models a session takes; the others are refused by name."""

from __future__ import annotations

import torch
from torch import nn

from ithaca.swap.errors import Unsupported


def check_supported(model: nn.Module) -> None:
    """Raises :class:`~ithaca.swap.errors.Unsupported` with the reason and what to do instead."""
    if not isinstance(model, nn.Module):
        raise Unsupported(f"a memory session is for a torch.nn.Module, not {type(model).__name__}")
    for name, module in model.named_modules():
        where = name or "the model"
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
            raise Unsupported(
                f"{where} is compiled by torch.compile, which decides itself what to save; "
                "give the module that was compiled (its _orig_mod), uncompiled"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise Unsupported(f"{where} is a ScriptModule, whose operators cannot be observed")
    for name, parameter in model.named_parameters():
        if type(parameter.data) is not torch.Tensor and hasattr(parameter, "placements"):
            raise Unsupported(
                f"{name} is a DTensor (FSDP2, tensor parallel), whose storage comes and goes; "
                "its own offloading is the right tool there"
            )
