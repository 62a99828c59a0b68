"""Sizes counted and times reckoned without training."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ithaca.runtime.config.job import Job
from ithaca.runtime.estimate import NOMINAL_FLOPS, CannotComputeError, static_profile
from ithaca.runtime.operations import CountOperations
from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Value, WithLoss, Workload


class Doubled(nn.Linear):
    """A layer with a loss of its own that looks at its values, and at the batch."""

    def forward(self, x: Tensor, batch: Batch) -> WithLoss:  # type: ignore[override]
        assert isinstance(batch, Batch)
        assert x.sum().item() == x.sum().item()
        y = super().forward(x)
        return WithLoss(torch.cat([y, y], dim=-1), y.mean())


class Fussy(Workload):
    """Four layers: two alike, one with a loss, one that may not fit."""

    Config = BaseModel

    def __init__(self, config: int, *, seed: int = 0, micro_batches: int = 1) -> None:
        self.last = config
        self.built: list[str] = []

    def layers(self) -> Sequence[LayerSpec]:
        """The specs."""

        def build(name: str, module: type[nn.Linear], rows: int, columns: int) -> nn.Module:
            self.built.append(name)
            return module(rows, columns)

        return [
            LayerSpec("a", lambda: build("a", nn.Linear, 8, 8)),
            LayerSpec("b", lambda: build("b", nn.Linear, 8, 8)),
            LayerSpec("c", lambda: build("c", Doubled, 8, 16), needs_batch=True),
            LayerSpec("d", lambda: build("d", nn.Linear, self.last, 2)),
        ]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """Not used here."""
        raise AssertionError

    def batch(self, which: BatchId) -> Batch:
        """Five rows."""
        assert which == BatchId(0, 0)
        return Batch(torch.ones(5, 8), None, count=5)


def job(precision: str = "fp32", threads: int = 1) -> Job:
    """A job of this precision."""
    return Job.model_validate(
        {
            "name": "t",
            "workload": {"use": "x"},
            "steps": 1,
            "precision": precision,
            "cluster": {"workers": 1, "threads": threads},
        }
    )


def test_sizes() -> None:
    a, b, c, d = static_profile(Fussy(32), job()).layers
    assert (a.name, a.param_bytes, a.grad_bytes, a.state_bytes) == ("a", 288, 288, 576)
    assert (a.output_bytes, c.output_bytes, d.output_bytes) == (5 * 8 * 4, 5 * 32 * 4, 5 * 2 * 4)
    assert a.activation_bytes == 5 * 8 * 4
    assert (a.forward_s, a.backward_s) == (b.forward_s, b.backward_s)


def test_narrow_layers_keep_wide_gradients_and_state() -> None:
    a = static_profile(Fussy(32), job("bf16")).layers[0]
    assert (a.param_bytes, a.grad_bytes, a.state_bytes) == (144, 288, 864)
    assert a.output_bytes == 5 * 8 * 2


def test_layers_of_one_kind_are_called_once_and_the_generator_is_left_alone() -> None:
    workload = Fussy(32)
    before = torch.get_rng_state()
    static_profile(workload, job())
    assert torch.equal(torch.get_rng_state(), before)
    assert workload.built == ["a", "a", "b", "c", "c", "d", "d"]


def test_a_layer_that_does_not_fit_is_named() -> None:
    with pytest.raises(CannotComputeError, match="layer 'd' fails when called"):
        static_profile(Fussy(31), job())


def test_a_layer_that_cannot_be_built_is_named() -> None:
    with pytest.raises(CannotComputeError, match="layer 'd' cannot be built"):
        static_profile(Fussy(-1), job())


def test_every_number_has_an_origin() -> None:
    profile = static_profile(Fussy(32), job(threads=2))
    assert set(profile.origin) == {"bytes", "times", "link", "split"}
    assert f"{2 * NOMINAL_FLOPS / 1e9:g} GFLOP/s" in profile.origin["times"]


def test_operations_are_counted() -> None:
    x, w, q = torch.ones(3, 4), torch.ones(4, 5), torch.ones(2, 6, 4)
    signal, kernel = torch.ones(1, 2, 8), torch.ones(3, 2, 3)
    with CountOperations() as counter:
        _ = x @ w
        assert counter.flops == 2 * 3 * 4 * 5
        nn.functional.linear(x, w.T)
        assert counter.flops >= 2 * 2 * 3 * 4 * 5
        before = counter.flops
        nn.functional.scaled_dot_product_attention(q, q, q)
        assert counter.flops - before >= 4 * 2 * 6 * 6 * 4
        before = counter.flops
        nn.functional.conv1d(signal, kernel)
        assert counter.flops - before == 2 * 3 * 6 * 6


def test_a_batch_that_fails_is_told() -> None:
    workload = Fussy(32)

    def batch(which: BatchId) -> Batch:
        raise LookupError("no data")

    workload.batch = batch  # type: ignore[method-assign]
    with pytest.raises(CannotComputeError, match="first batch fails with LookupError: no data"):
        static_profile(workload, job())
