"""Saved tensors that one cheap operator makes again, to the last bit.

Products (of which RMSNorm is made), GELU, SiLU and layer normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ithaca.swap import allocator, planning, replays
from ithaca.swap.planning import Planning
from ithaca.swap.replays import Maker, Speed, is_cheap
from ithaca.swap.session import MemorySession
from ithaca.swap.trace import Link, Trace
from tests.unit.swap.tiny import WIDTH, Case, Outcome, tokens, train, transformer


class Feed(nn.Module):
    """A residual feed-forward layer with one activation."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.activation, self.edit = activation, False

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        inner = self.up(x)
        made = self.activation(inner)
        out: Tensor = x + self.down(made)
        if self.edit:
            inner.add_(1)
        return out


def product(x: Tensor) -> Tensor:
    """Of a tensor that needs a gradient with a view of another."""
    return x.sigmoid() * x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "SiLU": F.silu,
    "products": product,
}


def feeds(name: str) -> Case:
    """Six layers with this activation."""
    return Case(lambda: nn.Sequential(*(Feed(ACTIVATIONS[name]) for _ in range(6))), tokens)


class Normed(nn.Module):
    """A residual layer behind a norm, whose output the linear layer saves."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.out = norm, nn.Linear(WIDTH, WIDTH)
        nn.init.uniform_(next(norm.parameters(), torch.empty(1)), 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        out: Tensor = x + self.out(self.norm(x)).sin()
        return out


NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(WIDTH, eps=3e-4),
    "layer norm without bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    "layer norm without weights": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "RMS norm": lambda: nn.RMSNorm(WIDTH),
}


def norms(name: str) -> Case:
    """Six layers with this norm."""
    return Case(lambda: nn.Sequential(*(Normed(NORMS[name]()) for _ in range(6))), tokens)


CASES = (
    {name: feeds(name) for name in ACTIVATIONS}
    | {name: norms(name) for name in NORMS}
    | {"norms and gates": Case(transformer, tokens)}
)


MEASURED = Speed.observe
OBSERVED = Speed.bytes_per_s.fget  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def free_of_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the policy chooses depends on times; here one operator always costs least."""
    slow = (Link("disk", 1e6, 1e6),)
    monkeypatch.setattr(Planning, "_links", lambda _self: slow)
    monkeypatch.setattr(planning, "with_blocks", lambda trace, _inputs: trace)
    monkeypatch.setattr(replays, "CALL_SECONDS", 0.0)
    monkeypatch.setattr(Speed, "bytes_per_s", property(lambda _self: 1e15))


def tight(case: Case, reference: Outcome, folder: Path) -> tuple[Outcome, Counter[str]]:
    """At 50 %: the outcome, and how many storages were planned to be made again, and were."""
    seen: list[MemorySession] = []
    outcome = train(case, budget=reference.budget(0.5), folder=folder, prepare=seen.append)
    report = seen[0].report()
    planned = sum(
        is_cheap(line.replay) for plan in report.plans.values() for line in plan.decisions
    )
    made = report.counters["made_again"]
    return outcome, Counter(planned=planned, made=made)


@pytest.mark.parametrize("name", CASES)
def test_what_one_operator_makes_again_has_the_same_bits(name: str, tmp_path: Path) -> None:
    reference = train(CASES[name])
    outcome, count = tight(CASES[name], reference, tmp_path)
    assert count["planned"] > 0
    assert count["made"] > 0
    assert outcome.same_as(reference)


def test_the_speed_of_operators_is_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps that are looked at in detail while a plan is in force."""
    monkeypatch.setattr(Speed, "observe", MEASURED)
    case = CASES["SiLU"]
    reference = train(case)
    speed = Speed()
    allocator.install()
    model = case.make()
    budget = reference.budget(0.5)
    with MemorySession(model, budget, folder=tmp_path, limit="1GiB", detail_every=2) as memory:
        memory._planning._speed = speed
        for step in range(5):
            model.zero_grad()
            model(case.inputs(step)).square().mean().backward()
            memory.step()
    assert speed.seconds > 0
    assert OBSERVED(speed) == speed.touched_bytes / speed.seconds


def test_a_norm_needs_room_for_its_mean_and_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: list[Maker] = []

    def spy(trace: Trace, known: Sequence[Maker], rate: float | None = None) -> Trace:
        makers.extend(known)
        made = replays.with_operators(trace, known, rate)
        assert {r.workspace_bytes for r in made.replays} <= {each.beside_bytes for each in known}
        return made

    monkeypatch.setattr(planning, "with_operators", spy)
    reference = train(norms("layer norm"))
    tight(norms("layer norm"), reference, tmp_path)
    rows = tokens(0).numel() // WIDTH
    assert {maker.beside_bytes for maker in makers} == {2 * 4 * rows}


@pytest.mark.parametrize("name", ["GELU", "products", "layer norm", "RMS norm"])
def test_another_operator_would_be_noticed(name: str, tmp_path: Path) -> None:
    """The control."""
    case = CASES[name]
    reference = train(case)
    ops = allocator.operators()
    ops.memory_mutate(8)
    try:
        outcome, count = tight(case, reference, tmp_path)
    finally:
        ops.memory_mutate(0)
    assert count["made"] > 0
    assert not outcome.same_as(reference)


class Other(nn.LayerNorm):
    """Has the sizes and the weights of its class, and another epsilon."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] to the same."""
        return F.layer_norm(x, (WIDTH,), self.weight, self.bias, 0.1)


def test_a_norm_that_does_not_tell_its_epsilon_is_not_made_again(tmp_path: Path) -> None:
    case = Case(lambda: nn.Sequential(*(Normed(Other(WIDTH)) for _ in range(6))), tokens)
    reference = train(case)
    outcome, count = tight(case, reference, tmp_path)
    assert count["made"] == 0
    assert outcome.same_as(reference)


def test_a_wrong_epsilon_is_an_error_and_never_another_result(tmp_path: Path) -> None:
    case = CASES["layer norm"]
    reference = train(case)
    allocator.install()
    model = case.make()

    def steps(memory: MemorySession) -> None:
        for step in range(4):
            model.zero_grad()
            model(case.inputs(step)).square().mean().backward()
            memory.step()

    with MemorySession(model, reference.budget(0.5), folder=tmp_path, limit="1GiB") as memory:
        normed = allocator.operators().memory_normed
        for layer in model:  # type: ignore[attr-defined]
            # Behind the session's own hook: this one is believed.
            layer.norm.register_forward_hook(lambda _module, _args, out: normed(out, 0.1))
        with pytest.raises(RuntimeError, match="layer normalisation was not the same"):
            steps(memory)


def test_an_input_that_is_edited_is_the_error_of_stock_autograd(tmp_path: Path) -> None:
    case = CASES["GELU"]
    reference = train(case)
    allocator.install()
    model = case.make()
    with MemorySession(model, reference.budget(0.5), folder=tmp_path, limit="1GiB") as memory:
        for step in range(3):
            model.zero_grad()
            model(case.inputs(step)).square().mean().backward()
            memory.step()
        assert memory.report().counters["made_again"] > 0
        for part in model:  # type: ignore[attr-defined]
            part.edit = True
        loss = model(case.inputs(0)).square().mean()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
