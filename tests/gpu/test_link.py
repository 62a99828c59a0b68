"""The way between the GPU and pinned host memory: both directions, alone and beside products."""

from __future__ import annotations

import torch

from ithaca.swap.bench.link import link_speeds


def test_both_directions_are_measured() -> None:
    speeds = link_speeds(size=1 << 26, rounds=3)
    assert set(speeds) == {
        *("out", "in", "both", "out beside products", "in beside products"),
        "both beside products",
    }
    assert all(speed > 0 for speed in speeds.values())


def test_what_is_copied_out_and_in_is_the_same() -> None:
    given = torch.randn(1 << 20, device="cuda")
    host = torch.empty(given.shape, pin_memory=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        host.copy_(given, non_blocking=True)
        back = torch.empty_like(given)
        back.copy_(host, non_blocking=True)
    stream.synchronize()
    assert torch.equal(back, given)
