"""The way between a GPU and pinned host memory: both directions, alone and beside products."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

# The matrices of the products that run beside the copies, and how many of them.
WIDTH, PRODUCTS = 8192, 40


def link_speeds(size: int = 1 << 30, rounds: int = 5) -> dict[str, float]:
    """Bytes a second of one direction, by what ran; the best of ``rounds``.

    Args:
        size: bytes of a copy.
        rounds: repetitions.
    """
    device = torch.device("cuda")
    host_out, host_in = (torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    held_out, held_in = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    factor = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)
    streams = torch.cuda.Stream(), torch.cuda.Stream()

    def out() -> None:
        host_out.copy_(held_out, non_blocking=True)

    def back() -> None:
        held_in.copy_(host_in, non_blocking=True)

    def run(copies: tuple[Callable[[], None], ...], products: bool) -> float:
        best = 0.0
        for _ in range(rounds):
            torch.cuda.synchronize()
            if products:
                for _ in range(PRODUCTS):
                    torch.mm(factor, factor)
            began = time.perf_counter()
            for stream, copy in zip(streams, copies, strict=False):
                with torch.cuda.stream(stream):
                    copy()
            for stream in streams:
                stream.synchronize()
            best = max(best, size / (time.perf_counter() - began))
        torch.cuda.synchronize()
        return best

    kinds = {"out": (out,), "in": (back,), "both": (out, back)}
    alone = {name: run(copies, False) for name, copies in kinds.items()}
    beside = {f"{name} beside products": run(copies, True) for name, copies in kinds.items()}
    return alone | beside
