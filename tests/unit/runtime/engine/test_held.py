"""Layers as the engine holds them: checks of the model, weights, state and its hash."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ithaca.runtime.engine.held import HeldLayer, Model
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.workload import LayerSpec, TiedWeights
from tests.helpers.virtual_job import ADAMW

CPU = torch.device("cpu")
TIE = TiedWeights(("low", "weight"), ("high", "weight"))


def spec(name: str, build: Callable[[], nn.Module] | None = None) -> LayerSpec:
    """A small linear layer, or what ``build`` makes."""
    return LayerSpec(name, build or (lambda: nn.Linear(3, 3)))


def model(*ties: TiedWeights) -> Model:
    """Three layers."""
    return Model((spec("low"), spec("middle"), spec("high")), ties)


def hold(index: int, of: Model, dtype: torch.dtype = torch.float32, seed: int = 0) -> HeldLayer:
    """One layer of ``of``."""
    return HeldLayer(index, of, Randomness(seed, CPU), dtype, CPU, ADAMW)


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_names_are_unique_and_there_is_one(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least one layer and names are unique"):
        Model(tuple(map(spec, names)))


@pytest.mark.parametrize(
    ("ties", "message"),
    [
        ([TiedWeights(("low", "weight"), ("top", "weight"))], "tied weights name layer 'top'"),
        ([TiedWeights(("high", "weight"), ("low", "weight"))], "from a lower to an upper layer"),
        ([TiedWeights(("low", "weight"), ("low", "bias"))], "from a lower to an upper layer"),
        ([TIE, TiedWeights(("middle", "weight"), ("high", "weight"))], "tied to one other only"),
    ],
)
def test_ties_are_checked(ties: list[TiedWeights], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(*ties)


def test_ties_by_layer() -> None:
    bias = TiedWeights(("low", "bias"), ("high", "bias"))
    other = TiedWeights(("middle", "weight"), ("high", "extra"))
    tied = model(TIE, bias, other)
    assert tied.pairs() == ((0, 2), (1, 2))
    assert tied.tied(0, 2) == [("bias", "bias"), ("weight", "weight")]
    assert tied.repeated(2) == {"weight", "bias", "extra"}
    assert tied.repeated(0) == tied.repeated(1) == frozenset()


def test_weights_follow_from_seed_and_layer_and_tied_ones_are_equal() -> None:
    plain, tied = model(), model(TIE)
    low, high = hold(0, tied), hold(2, tied)
    assert torch.equal(low.masters[0], high.masters[0])
    assert torch.equal(high.masters[1], hold(2, plain).masters[1]), "its bias is its own"
    assert not torch.equal(low.masters[0], hold(1, tied).masters[0])
    assert not torch.equal(low.masters[0], hold(0, tied, seed=1).masters[0])
    assert hold(0, tied).hash() == low.hash()


@pytest.mark.parametrize(
    "build",
    [lambda: nn.BatchNorm1d(3), lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))],
)
def test_running_statistics_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"layer norm: .*track_running_stats=False"):
        hold(0, Model((spec("norm", build),)))


def test_statistics_of_a_micro_batch_are_allowed() -> None:
    hold(0, Model((spec("norm", lambda: nn.BatchNorm1d(3, track_running_stats=False)),)))


class Turned(nn.Module):
    """A weight that does not lie in memory in the order of its elements, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3).t())
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)


def test_turned_weights_are_stepped_in_their_own_order() -> None:
    """The fused optimizer reads memory from end to end; see the plain one for comparison."""
    layer = hold(0, Model((spec("turned", Turned),)))
    assert layer.names == ("weight",)
    gradient = torch.randn(3, 4)
    reference = nn.Parameter(layer.masters[0].detach().clone())
    reference.grad = gradient.clone()
    torch.optim.AdamW(
        [reference], 0.1, ADAMW.betas, ADAMW.eps, ADAMW.weight_decay, foreach=False
    ).step()
    layer.step([gradient.t().contiguous().t()], 0.1, 1.0)
    torch.testing.assert_close(layer.masters[0].detach(), reference.detach())


def stepped(dtype: torch.dtype) -> HeldLayer:
    """A layer after one step."""
    layer = hold(1, model(), dtype)
    layer.step([torch.randn(3, 3), torch.randn(3)], 0.1, 2.0)
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_goes_round(dtype: torch.dtype) -> None:
    source, target = stepped(dtype), hold(1, model(), dtype, seed=9)
    assert source.hash() != target.hash()
    target.load({key: value.clone() for key, value in source.state().items()})
    assert source.hash() == target.hash()
    assert all(map(torch.equal, source.parameters, target.parameters))
    assert {value.dtype for value in source.state().values()} == {torch.float32}
    gradients = [torch.ones(3, 3), torch.ones(3)]
    for layer in (source, target):
        layer.step([g.clone() for g in gradients], 0.1, 1.0)
    assert source.hash() == target.hash()


def test_bf16_weights_are_the_rounded_fp32_ones() -> None:
    layer = stepped(torch.bfloat16)
    for weight, master in zip(layer.parameters, layer.masters, strict=True):
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, master.bfloat16())
    assert not torch.equal(layer.parameters[0].float(), layer.masters[0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda state: state.pop("exp_avg.bias"),
        lambda state: state.update({"param.extra": torch.zeros(1)}),
        lambda state: state.update({"param.bias": torch.zeros(4)}),
        lambda state: state.update({"param.bias": torch.zeros(3, dtype=torch.float64)}),
    ],
    ids=["missing", "extra", "shape", "dtype"],
)
def test_a_wrong_state_is_refused_and_nothing_changes(
    wrong: Callable[[dict[str, Tensor]], object],
) -> None:
    layer = stepped(torch.float32)
    before, state = layer.hash(), hold(0, model()).state()
    wrong(state)
    with pytest.raises(ValueError, match="the state of layer middle does not fit"):
        layer.load(state)
    assert layer.hash() == before


def test_the_hash_sees_every_bit_of_the_state() -> None:
    layer = stepped(torch.float32)
    seen = {layer.hash()}
    for tensor in layer.state().values():
        bits = tensor.view(torch.int32).reshape(-1)
        for bit in (0, 11, 31):
            bits[-1] ^= -(2**31) if bit == 31 else 1 << bit
            seen.add(layer.hash())
            bits[-1] ^= -(2**31) if bit == 31 else 1 << bit
    assert len(seen) == 1 + 3 * len(layer.state())


def test_squares_leave_out_repeated_weights() -> None:
    gradients = [torch.full((3, 3), 2.0), torch.ones(3)]
    assert hold(2, model()).squares(gradients) == pytest.approx(39)
    assert hold(2, model(TIE)).squares(gradients) == pytest.approx(3)
    assert hold(0, model(TIE)).squares(gradients) == pytest.approx(39)
    assert hold(0, Model((spec("none", nn.Identity),))).squares([]) == 0.0
