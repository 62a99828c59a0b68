"""The system may have less than the budget: at chosen points, at random, and under a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
from tests.helpers.limited_process import printed
from tests.unit.swap.tiny import CASES, train


def refusing(one_in: int, seed: int) -> Callable[[MemorySession], None]:
    """The system refuses one in so many allocations, whatever the budget says."""
    return lambda _memory: allocator.operators().memory_shortage(one_in, seed)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("one_in", "seed"), [(1, 0), (3, 1), (20, 2)])
def test_a_system_that_refuses_changes_no_bit(
    name: str, one_in: int, seed: int, tmp_path: Path
) -> None:
    case = CASES[name]
    reference = train(case)
    budget = reference.budget(0.8)
    try:
        tight = train(case, budget=budget, folder=tmp_path, prepare=refusing(one_in, seed))
    finally:
        allocator.operators().memory_shortage(0)
    assert tight.same_as(reference)


# The system's memory is full of tensors that could leave when the math library first needs a
# buffer: it gets none unless somebody left it room. Some libraries then compute in another order,
# with other bits. Just before that product a buffer is asked for as a library would.
PROGRAM = """
import json, mmap, resource, sys
import torch
from torch import nn
from ithaca.swap import allocator, session
from ithaca.swap.session import MemorySession

folder, limited, reserve = sys.argv[1], sys.argv[2] == "1", int(sys.argv[3])
torch.set_num_threads(1)
session.RESERVE_BYTES = reserve
allocator.install()
torch.manual_seed(0)
rows, width = 4096, 256  # 4 MiB each
model = nn.Sequential(*(nn.Tanh() for _ in range(12)), nn.Linear(width, width, bias=False))
x = torch.randn(rows, width, requires_grad=True)


def free():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


given = []


def ask(_module, inputs):
    result = torch.empty_like(inputs[0])  # the product's own takes its place before
    try:
        mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        given.append(True)
    except OSError:
        given.append(False)


model[-1].register_forward_pre_hook(ask)
with MemorySession(model, "1GiB", folder=folder, limit="1GiB") as memory:
    before = torch.randn(rows, width, requires_grad=True)
    nn.Sequential(nn.Tanh(), nn.Tanh())(before).sum().backward()
    del before
    if limited:
        # For all results, each mapped with a page of malloc and two of ours, and little else.
        room = len(model) * (rows * width * 4 + 3 * 4096) + (200 << 10)
        resource.setrlimit(resource.RLIMIT_DATA, (free() + room, -1))
    y = model(x)
    total = torch.ops.ithaca.hash128(y.detach()).tolist()
    evicted = memory.report().counters["reclaims"]
    resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
print(json.dumps([total, given[0], evicted]))
"""


def first_product(
    folder: Path, *, limited: bool, reserve: int = 4 << 20
) -> tuple[list[int], bool, int]:
    """A process's first large product.

    Returns:
        its hash, whether a buffer could be had for it, how often room had to be made.
    """
    total, given, made_room = printed(PROGRAM, folder, int(limited), reserve)
    return total, given, made_room


def test_math_libraries_keep_their_buffers(tmp_path: Path) -> None:
    free, _, _ = first_product(tmp_path, limited=False)
    tight, given, made_room = first_product(tmp_path, limited=True)
    assert made_room > 0
    assert given
    assert tight == free


def test_without_a_reserve_there_is_no_buffer(tmp_path: Path) -> None:
    """The control: nobody leaves the library room. What it then does is its own affair."""
    _, given, _ = first_product(tmp_path, limited=True, reserve=0)
    assert not given
