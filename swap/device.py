"""Where a model is, and what is particular to that: random state, autocast, host memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ithaca.swap import allocator
from ithaca.swap.allocator import operators
from ithaca.swap.errors import Unsupported
from ithaca.swap.size import parse_bytes


def device_of(model: nn.Module) -> torch.device:
    """The one device of all parameters and buffers; the CPU if there are none.

    Raises:
        Unsupported: they are on several, or on one whose memory cannot be counted here.
    """
    found = {
        tensor.device
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.device.type != "meta"
    }
    if len(found) > 1:
        names = ", ".join(sorted(str(device) for device in found))
        raise Unsupported(
            f"the model is on several devices, {names}: a memory session counts the memory of "
            "one; open it for a part that is on one"
        )
    device = found.pop() if found else torch.device("cpu")
    if device.type == "cpu":
        return device
    if not operators().memory_has(device):
        raise Unsupported(
            f"the model is on {device}: this build counts the memory of the CPU alone; build the "
            "extension with a torch for CUDA and CUDA's headers (make gpu says which it finds)"
        )
    return device


def host_bytes(host: int | str | None, device: torch.device) -> int:
    """Bytes of pinned host memory for tensors of ``device``; half of the machine's by default.

    Raises:
        ValueError: no size, or a size for a model on the CPU, which is in host memory already.
    """
    if device.type == "cpu" and not operators().memory_emulated():
        if host is not None:
            raise ValueError(
                f"host={host!r} is for a model on a GPU; this one is on the CPU, where tensors go "
                "to a folder: give folder and limit"
            )
        return 0
    if host is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return parse_bytes(host)


def allocated_bytes(device: torch.device) -> int:
    """Bytes of torch's allocator of ``device``, now, with or without a session."""
    if device.type == "cpu":
        return allocator.usage().allocated
    return torch.cuda.memory_allocated(device)


@contextmanager
def allocator_for(device: torch.device, budget_bytes: int) -> Iterator[None]:
    """Lets torch's allocator of a GPU waste less while a session is open there.

    Segments grow instead of being cut up, and what is reserved is capped, too, a little above the
    budget: then blocks that are cached and fit nothing are given back. What cannot be given back
    when the session begins, since something lies in each of its segments, comes on top.
    """
    if device.type != "cuda":
        yield
        return
    total = torch.cuda.mem_get_info(device)[1]
    before = torch.cuda.get_per_process_memory_fraction(device)
    torch.cuda.empty_cache()
    stuck = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    _let_segments_grow(device)
    reserved = most_reserved(budget_bytes, stuck)
    torch.cuda.set_per_process_memory_fraction(min(1.0, reserved / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)


def most_reserved(budget_bytes: int, stuck_bytes: int) -> int:
    """Bytes that torch may reserve under a budget, if ``stuck_bytes`` are reserved for nothing.

    Those may be of use for what is short enough; nothing says that they will.
    """
    return max(int(RESERVED * budget_bytes), budget_bytes + PIECES) + stuck_bytes


def _let_segments_grow(device: torch.device) -> None:
    """For the rest of the process; not where the driver cannot."""
    settings = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    change = settings or torch.cuda.memory._set_allocator_settings
    change("expandable_segments:True")
    try:
        torch.empty(PROBE, dtype=torch.uint8, device=device)
    except RuntimeError as error:  # also out of memory, which every segment would be
        change("expandable_segments:False")
        warnings.warn(
            f"the memory of {device} is kept in segments that do not grow ({error}); more of it "
            "may be reserved than is allocated",
            stacklevel=2,
        )


# What may be reserved, over the budget, and in pieces of torch, which small budgets have to allow.
RESERVED, PIECES = 1.02, 64 << 20
# Bytes that torch takes a segment of its own for.
PROBE = 16 << 20

RandomState = tuple[Tensor, ...]


def random_state(device: torch.device) -> RandomState:
    """The states of torch's generators that operators of a model on ``device`` draw from."""
    states = (torch.random.get_rng_state(),)
    return (*states, torch.cuda.get_rng_state(device)) if device.type == "cuda" else states


def set_random_state(states: RandomState, device: torch.device) -> None:
    """Puts back what :func:`random_state` gave."""
    torch.random.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
