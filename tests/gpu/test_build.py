"""The extension is built against this torch and has its operators; triton sees the GPU."""

from __future__ import annotations

import torch
import triton

import ithaca._C
from ithaca.swap import allocator
from tests.helpers.cxx import stream_of


def test_operators_are_registered() -> None:
    ops = allocator.operators()
    halves = ops.hash128(torch.arange(8), 0)
    assert halves.dtype == torch.int64
    assert halves.shape == (2,)


def test_memory_of_the_cpu_is_counted_beside_a_gpu() -> None:
    allocator.install()
    before = allocator.usage().allocated
    held = torch.zeros(1 << 20)
    assert allocator.usage().allocated - before >= held.nbytes


def test_triton_drives_the_gpu() -> None:
    assert triton.runtime.driver.active.get_current_target().backend == "cuda"


def test_the_memory_of_the_gpu_can_be_counted() -> None:
    assert allocator.operators().memory_has(torch.device("cuda", 0))


def test_the_extension_runs_on_torchs_library_of_cxx() -> None:
    assert stream_of(ithaca._C) == stream_of(torch._C)
