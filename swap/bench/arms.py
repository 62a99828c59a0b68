"""The ways to train with less memory that are compared, each as a context around steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from ithaca.swap import allocator, planning
from ithaca.swap.bench.models import Stack
from ithaca.swap.bench.offload import OffloadActivations
from ithaca.swap.device import device_of
from ithaca.swap.published import Published
from ithaca.swap.session import MemorySession

# What selective checkpointing keeps: products and attention.
EXPENSIVE = frozenset(
    {
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten.convolution.default,
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)

# Storages below this are not considered by the published policy, in bytes.
PUBLISHED_SMALLEST = 20_000_000


@dataclass(frozen=True)
class Limits:
    """What an arm may use.

    Args:
        budget_bytes: of the device's allocator; only for arms that know budgets.
        folder: of the disk tier.
        limit_bytes: of the disk tier.
        bytes_per_s: the link's emulated speed, each way; 0 for its own.
    """

    budget_bytes: int
    folder: Path
    limit_bytes: int = 1 << 35
    bytes_per_s: int = 0


# Made ready for a model: what the forward runs in, and the session if there is one.
Ready = tuple[Callable[[], AbstractContextManager[Any]], MemorySession | None]
Arm = Callable[[Stack, Limits], AbstractContextManager[Ready]]


@contextmanager
def nothing(model: Stack, limits: Limits) -> Iterator[Ready]:
    """No memory saving."""
    yield nullcontext, None


def _selective(context: object, operator: object, *args: object, **kwargs: object) -> object:
    save = operator in EXPENSIVE
    return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def checkpointing(model: Stack, limits: Limits, *, selective: bool = False) -> Iterator[Ready]:
    """torch.utils.checkpoint around every block; ``selective`` keeps what is expensive."""
    more: dict[str, Any] = {}
    if selective:
        more["context_fn"] = partial(create_selective_checkpoint_contexts, _selective)

    def run(block: nn.Module, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(block, x, use_reentrant=False, **more)
        return result

    before, model.run = model.run, run
    try:
        yield nullcontext, None
    finally:
        model.run = before


@contextmanager
def saved_on_cpu(model: Stack, limits: Limits) -> Iterator[Ready]:
    """torch.autograd.graph.save_on_cpu, pinned."""
    yield partial(save_on_cpu, pin_memory=torch.cuda.is_available()), None


@contextmanager
def offloaded(model: Stack, limits: Limits) -> Iterator[Ready]:
    """Activations to the host on a stream of their own."""
    context = OffloadActivations(model)
    yield lambda: context, None


@contextmanager
def session(
    model: Stack, limits: Limits, *, recompute: bool = True, policy: object = None
) -> Iterator[Ready]:
    """Ours; ``policy`` decides in place of our own."""
    own = getattr(planning, "decide")  # noqa: B009
    if policy is not None:
        setattr(planning, "decide", policy)  # noqa: B010 - for this process, which measures it
    disk: dict[str, Any] = {"folder": limits.folder, "limit": limits.limit_bytes}
    try:
        with MemorySession(model, limits.budget_bytes, recompute=recompute, **disk) as memory:
            if limits.bytes_per_s:
                speed = limits.bytes_per_s
                allocator.operators().memory_link_speed(speed, speed)
            yield nullcontext, memory
    finally:
        setattr(planning, "decide", own)  # noqa: B010


@contextmanager
def without_disk(model: Stack, limits: Limits) -> Iterator[Ready]:
    """Ours with nothing but blocks that are computed again."""
    nowhere: dict[str, Any] = {} if device_of(model).type == "cpu" else {"host": 0}
    with MemorySession(model, limits.budget_bytes, **nowhere) as memory:
        yield nullcontext, memory


def published(model: Stack, limits: Limits) -> AbstractContextManager[Ready]:
    """The published SmartSwap policy in our executor; on the CPU its threshold is the models'."""
    smallest = 1 << 18 if device_of(model).type == "cpu" else PUBLISHED_SMALLEST
    policy = Published(smallest_bytes=smallest, layers=len(model.blocks))
    return session(model, limits, recompute=False, policy=policy.decide)


ARMS: dict[str, Arm] = {
    "nothing": nothing,
    "full checkpointing": checkpointing,
    "selective checkpointing": partial(checkpointing, selective=True),
    "save_on_cpu": saved_on_cpu,
    "offload": offloaded,
    "published": published,
    "swap only": partial(session, recompute=False),
    "recompute only": without_disk,
    "ours": session,
}
# The other one needs a second memory to copy to; save_on_cpu copies within the only one there is.
CPU_ARMS = tuple(name for name in ARMS if name != "offload")
GPU_ARMS = tuple(ARMS)
# Their peak is what it is, whatever the budget.
FIXED_ARMS = frozenset(
    {"nothing", "full checkpointing", "selective checkpointing", "save_on_cpu", "offload"}
)
