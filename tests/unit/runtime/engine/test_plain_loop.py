"""The engine against a training loop in plain PyTorch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ithaca.planner.plan import Schedule
from ithaca.runtime.engine import autograd
from tests.helpers.plain_loop import PlainLoop
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import ADAMW, EXACT, VirtualJob, layout

STEPS, MICRO_BATCHES = 3, 6
DENSE = Options(kinds=("plain", "plain", "slice"))
Weights = dict[tuple[str, str], Tensor]


def both(options: Options, stages: tuple[int, ...], fused: bool) -> tuple[Weights, Weights, bool]:
    """Weights by the engine and by the plain loop, and whether losses and norms are close."""
    workload = Small(options, seed=3, micro_batches=MICRO_BATCHES)
    plan = layout(len(options.kinds) + 2, stages, MICRO_BATCHES, Schedule.ONE_F_ONE_B_SPLIT)
    job = VirtualJob(workload, plan)
    plain = PlainLoop(workload, job.states(), ADAMW, fused)
    close = True
    for step in range(STEPS):
        tally = job.train()
        loss, norm = plain.step(step, MICRO_BATCHES)
        close &= tally.loss == pytest.approx(loss, rel=1e-5)
        close &= tally.norm == pytest.approx(norm, rel=1e-4)
    engine = {
        (layer, key.removeprefix("param.")): value
        for layer, state in job.states().items()
        for key, value in state.items()
        if key.startswith("param.")
    }
    return engine, plain.named(), close


def differing(engine: Weights, plain: Weights) -> list[tuple[str, str]]:
    """Names of weights that differ in any bit."""
    return [name for name, weight in plain.items() if not torch.equal(engine[name], weight)]


@pytest.mark.parametrize("stages", [(1,), (2, 3), (1, 1, 1)], ids=["1x1", "2 and 3", "3x1"])
def test_a_dense_model_has_the_same_bits(stages: tuple[int, ...]) -> None:
    engine, plain, close = both(DENSE, stages, fused=True)
    assert close
    assert differing(engine, plain) == []
    assert engine.keys() == plain.keys()


@pytest.mark.parametrize(
    "options",
    [
        DENSE,
        Options(kinds=("twins", "plain", "nothing", "twins")),
        Options(kinds=("plain", "experts", "pair", "unpair")),
        Options(kinds=("plain", "experts"), tied=True),
    ],
    ids=["dense", "twins", "experts and pairs", "tied"],
)
def test_other_models_are_close_to_unfused_adamw(options: Options) -> None:
    engine, plain, close = both(options, (2, 1), fused=False)
    assert close
    for name, weight in plain.items():
        torch.testing.assert_close(engine[name], weight, rtol=1e-4, atol=2e-5, msg=str(name))


def test_gradients_in_shared_memory_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without memory of their own, sums of gradients are wrong."""
    monkeypatch.setattr(autograd, "own", lambda gradients, _: list(gradients))
    engine, plain, _ = both(Options(kinds=("twins", "plain")), (1,), fused=False)
    far = [n for n, w in plain.items() if not torch.allclose(engine[n], w, rtol=1e-4, atol=2e-5)]
    assert ("0-twins", "one") in far


def test_a_wrong_normalisation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a divisor that is off by one term in a hundred shows."""
    monkeypatch.setattr(type(ADAMW), "divisor", lambda _, count, norm: count * 1.01)
    settings = replace(EXACT, optimizer=replace(ADAMW, clip=None))
    assert settings.optimizer.divisor(100, 1.0) == 101
    engine, plain, _ = both(DENSE, (1,), fused=True)
    assert differing(engine, plain)
