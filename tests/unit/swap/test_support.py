"""The support matrix of docs/memory.md, row by row: the same bits, or refused by name."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ithaca.swap import allocator
from ithaca.swap.errors import Unsupported
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import WIDTH, Block, tokens, transformer

Call = Callable[[nn.Module, Tensor], Tensor]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def plain(model: nn.Module, x: Tensor) -> Tensor:
    """The loss of a call."""
    loss: Tensor = model(x).float().square().mean()
    return loss


def autocast(model: nn.Module, x: Tensor) -> Tensor:
    """Under autocast."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return plain(model, x)


class Checkpointed(nn.Module):
    """Blocks under torch.utils.checkpoint, as gradient_checkpointing_enable() has them."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


class Adapted(nn.Module):
    """A frozen linear layer with a low-rank adapter beside it, as PEFT makes it."""

    def __init__(self, frozen: nn.Linear) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, 4, bias=False)
        self.up = nn.Linear(4, frozen.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        result: Tensor = self.frozen(x) + self.up(self.down(x))
        return result


def adapted() -> nn.Module:
    """A transformer of which only adapters are trained."""
    model = transformer(4).requires_grad_(False)
    for block in model.modules():
        if isinstance(block, Block):
            for name in ("gate", "down"):
                setattr(block, name, Adapted(getattr(block, name)))
    return model


def trained(
    make: Callable[[], nn.Module], call: Call, folder: Path | None, budget: int | None = None
) -> tuple[list[Tensor], int, dict[str, int]]:
    """Parameters after three steps, the peak above the start, and the session's counters."""
    allocator.install()
    gc.collect()
    torch.manual_seed(3)
    base = held_bytes()
    model = make()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    counters: dict[str, int] = {}

    def loop(memory: MemorySession | None) -> None:
        for step in range(3):
            optimizer.zero_grad()
            call(model, tokens(step)).backward()
            optimizer.step()
            if memory is not None:
                memory.step()

    allocator.reset_peak()
    if budget is None:
        loop(None)
    else:
        disk = {} if folder is None else {"folder": folder, "limit": "1GiB"}
        with MemorySession(model, base + budget, **disk) as memory:  # type: ignore[arg-type]
            loop(memory)
            counters = memory.report().counters
            assert allocator.usage().peak <= base + budget
    peak = allocator.usage().peak - base
    return [parameter.detach().clone() for parameter in model.parameters()], peak, counters


MATRIX: dict[str, tuple[Callable[[], nn.Module], Call]] = {
    "autocast": (lambda: transformer(4), autocast),
    "gradient checkpointing": (lambda: Checkpointed(reentrant=False), plain),
    "gradient checkpointing, reentrant": (lambda: Checkpointed(reentrant=True), plain),
    "frozen parameters": (adapted, plain),
}


def assert_same(make: Callable[[], nn.Module], call: Call, folder: Path) -> None:
    """The oracle: the same bits with about three quarters of what it takes alone."""
    free, peak, _ = trained(make, call, None)
    held = 4 * sum(parameter.nbytes for parameter in free)
    tight = min(peak - 1, held + (peak - held) * 3 // 4) if peak > held else peak * 4 // 5
    parameters, _, counters = trained(make, call, folder, tight)
    assert all(torch.equal(one, other) for one, other in zip(parameters, free, strict=True))
    assert counters["out_bytes"] + counters["state_out_bytes"] + counters["replays"] > 0


@pytest.mark.parametrize("row", MATRIX)
def test_the_same_bits(row: str, tmp_path: Path) -> None:
    make, call = MATRIX[row]
    leaf: Call = call
    if "reentrant" in row:  # it gives gradients only where an input asks for them
        leaf = lambda model, x: call(model, x.requires_grad_())  # noqa: E731
    assert_same(make, leaf, tmp_path)


def test_ddp_gives_the_same_bits(group: None, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert_same(lambda: DistributedDataParallel(transformer(4)), plain, scratch)


def test_frozen_parameters_stay_where_they_are(tmp_path: Path) -> None:
    model = adapted()
    places = [parameter.data_ptr() for parameter in model.parameters()]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with MemorySession(model, "64MiB", folder=tmp_path, limit="1GiB") as memory:
        plain(model, tokens(0)).backward()
        memory.step()
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    pairs = zip(model.parameters(), before, strict=True)
    assert all(torch.equal(now, then) for now, then in pairs)


def test_fsdp2_is_refused_by_name(group: None) -> None:
    model = transformer(2)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(Unsupported, match=r"DTensor \(FSDP2"):
        MemorySession(model, "1GiB")


def test_compiled_modules_are_refused_by_name() -> None:
    model = transformer(2)
    compiled: Any = torch.compile(model, backend="eager")
    with pytest.raises(Unsupported, match=r"compiled by torch\.compile"):
        MemorySession(compiled, "1GiB")
    model.compile(backend="eager")
    with pytest.raises(Unsupported, match=r"compiled by torch\.compile"):
        MemorySession(model, "1GiB")


def test_functorch_transforms_are_refused_by_name(tmp_path: Path) -> None:
    model = nn.Linear(WIDTH, WIDTH)
    parameters: dict[str, Tensor] = dict(model.named_parameters())

    def loss(held: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = functional_call(model, held, (x,)).sum()
        return result

    with (
        MemorySession(model, "1GiB", folder=tmp_path, limit="1GiB"),
        pytest.raises(RuntimeError, match="saved tensor hooks"),
    ):
        torch.func.grad(loss)(parameters, tokens(0))
    assert torch.func.grad(loss)(parameters, tokens(0)).keys() == parameters.keys()


def test_models_on_several_devices_are_refused_by_name() -> None:
    """With a GPU: tests/gpu/test_gpu_budget.py; here one is only said to be there."""

    class Split(nn.Linear):
        def buffers(self, recurse: bool = True) -> Iterator[Any]:
            yield SimpleNamespace(device=torch.device("cuda:0"))

    with pytest.raises(Unsupported, match="several devices, cpu, cuda:0"):
        MemorySession(Split(2, 2), "1GiB")


def test_every_row_of_the_matrix_has_the_test_that_it_names() -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs/memory.md").read_text().partition("## What goes with it")[2]
    lines = text.partition("\n## ")[0].splitlines()
    named = [line.split("|")[3] for line in lines if line.startswith("| ")]
    assert named[0].strip() == "test"
    assert len(named) > 8
    for cell in named[1:]:
        for word in re.findall(r"`([^`]+)`", cell):
            name, _, parameter = word.partition("[")
            assert name in globals() or (root / name).exists(), word
            assert not parameter or parameter.rstrip("].") in MATRIX, word
