"""Jobs of four times the memory that the process may have finish, under a limit of the system.

RLIMIT_DATA counts everything private that can be written, torch's or not, so the budget is a part
of the cap: threads, code that is loaded late, the heap's holes and the buffers of the math library
take the rest. (A library that does not get its buffer computes in another order, to other bits.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.limited_process import printed

PROGRAM = """
import json, resource, sys
import torch
from torch import nn
from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
import ithaca.swap.policy, numpy, scipy.optimize

kind, folder, cap, session = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"
torch.set_num_threads(1)
allocator.install()


def small():
    model = nn.Sequential(nn.Sequential(nn.Linear(64, 64), nn.GELU()))
    adam = torch.optim.Adam(model.parameters())
    model(torch.randn(64, 64)).square().mean().backward()
    adam.step()


small()  # whatever is loaded at the first use
wide, batch, layers = (128, 4096, 96) if kind == "activations" else (256, 2300, 96)
torch.manual_seed(0)
if session:
    data = int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmData")))
    resource.setrlimit(resource.RLIMIT_DATA, (data * 1024 + cap, -1))
base = allocator.usage().allocated
model = nn.Sequential(
    *(nn.Sequential(nn.Linear(wide, wide, bias=False), nn.Tanh()) for _ in range(layers))
)
x = torch.randn(batch, wide)
adam = torch.optim.Adam(model.parameters(), lr=1e-3)


def loop(memory):
    for _ in range(2):
        adam.zero_grad()
        model(x).square().mean().backward()
        adam.step()
        if memory is not None:
            memory.step()


if session:
    budget = base + int((0.6 if kind == "activations" else 0.8) * cap)
    with MemorySession(model, budget, folder=folder, limit="8GiB") as memory:
        loop(memory)
        assert allocator.usage().peak <= budget
else:
    loop(None)
held = sum(p.nbytes for p in model.parameters())
total = [torch.ops.ithaca.hash128(p.detach()).tolist() for p in model.parameters()]
print(json.dumps({"hash": total, "peak": allocator.usage().peak - base, "held": held}))
"""


def run(kind: str, folder: Path, cap: int, session: bool) -> dict[str, object]:
    """What the program prints."""
    answer: dict[str, object] = printed(PROGRAM, kind, folder, cap, int(session))
    return answer


@pytest.mark.parametrize("kind", ["activations", "state"])
def test_four_times_the_cap(kind: str, tmp_path: Path) -> None:
    free = run(kind, tmp_path, 0, session=False)
    peak, held = free["peak"], free["held"]
    assert isinstance(peak, int)
    assert isinstance(held, int)
    cap = peak // 4
    if kind == "state":  # parameters, gradients and the two moments of Adam
        assert 4 * held >= 1.2 * cap
    tight = run(kind, tmp_path, cap, session=True)
    assert tight["hash"] == free["hash"]
