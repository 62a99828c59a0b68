"""What autograd does besides plain steps goes on as it was: the same values, the same errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes

Program = Callable[[nn.Module], list[Tensor]]


def net() -> nn.Module:
    """Twelve layers; every activation is 64 KiB."""
    torch.manual_seed(3)
    return nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(12)))


def given() -> Tensor:
    """An input."""
    return torch.randn(256, 64, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module) -> list[Tensor]:
    """Copies of all gradients."""
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@contextmanager
def tight(model: nn.Module, folder: Path, room: int = 12) -> Iterator[MemorySession]:
    """A session with room for parameters, gradients and so many activations."""
    allocator.install()
    budget = held_bytes() + sum(2 * p.nbytes for p in model.parameters())
    with MemorySession(model, budget + room * (64 << 10), folder=folder, limit="1GiB") as memory:
        yield memory
        assert allocator.usage().peak <= memory.budget_bytes


def views(model: nn.Module) -> list[Tensor]:
    """Saved views with offsets and strides, of one storage."""
    x = given().requires_grad_()
    for _ in range(4):
        wide = torch.cat([model(x), model(x)], 1)
        left, right = wide[:, 64:], wide.t()[3:67].t()
        x = (left.exp() * right[:, :64].sigmoid()).tanh()
    x.sum().backward()
    return gradients(model)


def retained(model: nn.Module) -> list[Tensor]:
    """One graph, two backwards, a forward between them."""
    loss = model(given()).square().mean()
    loss.backward(retain_graph=True)
    model(given() + 1).sum().backward()
    loss.backward()
    return gradients(model)


def double(model: nn.Module) -> list[Tensor]:
    """The gradient of a gradient."""
    x = given().requires_grad_()
    loss = model(model(x)).square().mean()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    first.square().sum().backward()
    return [first.detach(), *gradients(model)]


def checkpointed(model: nn.Module) -> list[Tensor]:
    """torch's own checkpoint, both kinds."""
    x = given().requires_grad_()
    y = checkpoint(model, x, use_reentrant=False)
    checkpoint(model, y, use_reentrant=True).square().mean().backward()
    return gradients(model)


def autocast(model: nn.Module) -> list[Tensor]:
    """bfloat16 where torch says so."""
    with torch.autocast("cpu", torch.bfloat16):
        y = model(model(given()))
    y.float().square().mean().backward()
    return gradients(model)


def accumulated(model: nn.Module) -> list[Tensor]:
    """Four micro-batches."""
    for shift in range(4):
        model(given() + shift).square().mean().backward()
    return gradients(model)


def frozen(model: nn.Module) -> list[Tensor]:
    """Only some parameters train."""
    for p in list(model.parameters())[:8]:
        p.requires_grad_(False)
    model(given()).square().mean().backward()
    return gradients(model)


def held(model: nn.Module) -> list[Tensor]:
    """Activations that the program itself keeps, and changes where that is allowed."""
    kept, x = [], given()
    for part in model:  # type: ignore[attr-defined]
        x = part(x)
        kept.append(x)
    x.square().mean().backward()
    return [*gradients(model), *(part.detach().clone() for part in kept[-2:])]


class Doubled(torch.autograd.Function):
    """Saves its input and its output, and edits what it gets back through ``.data``."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        y = 2 * x
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        x, y = ctx.saved_tensors
        return grad * (y / x)


def custom(model: nn.Module) -> list[Tensor]:
    """An autograd function written in Python."""
    x = given().abs() + 1
    for _ in range(3):
        x = Doubled.apply(model(x)).cosh()  # type: ignore[no-untyped-call]
    x.mean().backward()
    return gradients(model)


# What cannot leave: graphs of graphs, and what the program holds itself.
ROOM: dict[Program, int] = {views: 18, double: 60, held: 24, checkpointed: 40}
PROGRAMS = (*(views, retained, double, checkpointed, autocast, accumulated, frozen, held, custom),)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.__name__))
def test_values_are_those_without_a_session(program: Program, tmp_path: Path) -> None:
    expected = program(net())
    model = net()
    with tight(model, tmp_path, ROOM.get(program, 12)):
        found = program(model)
    assert len(found) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def edited_after_saving() -> None:
    """An output that its own node saved is changed."""
    x = given().requires_grad_()
    y = x.sigmoid()
    y.mul_(2)
    y.sum().backward()


def input_edited() -> None:
    """An input that a product saved is changed, through a view."""
    x = given().requires_grad_()
    a = x + 1
    y = a * a.sin()
    a[3:5].zero_()
    y.sum().backward()


def parameter_edited() -> None:
    """A parameter is changed between forward and backward, as by an optimizer."""
    layer = nn.Linear(64, 64)
    loss = layer(layer(given())).sum()
    with torch.no_grad():
        layer.weight.add_(1)
    loss.backward()


def words(error: RuntimeError) -> str:
    """The message without the node, which for us is that at the time of the save."""
    return re.sub(r"output 0 of \w+(::\w+)*", "output 0 of NODE", str(error))


@pytest.mark.parametrize("program", [edited_after_saving, input_edited, parameter_edited])
def test_edits_in_place_raise_the_error_of_stock_autograd(
    program: Callable[[], None], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as stock:
        program()
    with (
        pytest.raises(RuntimeError, match="modified by an inplace operation") as ours,
        tight(net(), tmp_path),
    ):
        program()
    assert words(ours.value) == words(stock.value)


def fails(x: Tensor) -> Tensor:
    """A loss whose backward raises half-way."""
    x.register_hook(lambda _gradient: 1 / 0)
    return x.sum()


def test_an_exception_in_the_middle_leaves_a_session_that_works(tmp_path: Path) -> None:
    expected = accumulated(net())
    model = net()
    with tight(model, tmp_path):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                fails(model(given()).square()).backward()
        model.zero_grad()
        found = accumulated(model)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_graph_outlives_its_session(tmp_path: Path) -> None:
    expected, model = net(), net()
    expected(given()).square().mean().backward()
    with tight(model, tmp_path) as memory:
        loss = model(given()).square().mean()
        assert memory.report().counters["alive"] > 0
    loss.backward()
    pairs = zip(gradients(model), gradients(expected), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
