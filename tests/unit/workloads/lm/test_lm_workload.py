"""The plug-in ``lm`` as the runtime meets it, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import BatchId, Split, TiedWeights
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.generate import forward
from ithaca.workloads.lm.workload import LM


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten files of a simple language."""
    for i in range(10):
        lines = [f"{'the cat' if (i + j) % 3 else 'a dog'} sat on mat {j % 7}" for j in range(80)]
        (tmp_path / f"{i}.txt").write_text("\n".join(lines))
    return tmp_path


def model(root: Path, **changes: Any) -> LM:  # noqa: ANN401
    """A small model of the texts in ``root``."""
    small = {"dim": 32, "num_layers": 2, "context": 32, "data": {"folder": root}}
    return LM(LMConfig.model_validate({**small, **changes}), seed=0, micro_batches=2)


def build(workload: LM) -> list[nn.Module]:
    """The layers under one seed."""
    torch.manual_seed(0)
    return [layer.build() for layer in workload.layers()]


def test_layers_have_their_names(root: Path) -> None:
    assert [x.name for x in model(root).layers()] == ["embed", "block0", "block1", "head"]


def test_the_loss_is_a_sum_in_fp32(root: Path) -> None:
    workload = model(root)
    batch = workload.batch(BatchId(0, 0))
    logits = torch.randn(8, 32, 256).bfloat16()
    expected = F.cross_entropy(logits.float().transpose(1, 2), batch.targets) * batch.count
    torch.testing.assert_close(workload.loss(logits, batch), expected)
    assert workload.loss(torch.zeros(8, 32, 256), batch).item() / batch.count * (
        workload.metric.scale
    ) == pytest.approx(8.0)
    assert workload.metric.name == "bits per byte"


def test_ties_name_parameters_of_one_shape(root: Path) -> None:
    assert model(root).ties() == []
    tied = model(root, tied=True)
    assert tied.ties() == [TiedWeights(("embed", "weight"), ("head", "weight"))]
    modules = build(tied)
    assert modules[0].get_parameter("weight").shape == modules[-1].get_parameter("weight").shape


def validation(workload: LM, modules: list[nn.Module]) -> float:
    """Bits per byte over two batches."""
    total = count = 0.0
    with torch.no_grad():
        for i in range(2):
            batch = workload.batch(BatchId(0, i, Split.VALIDATION))
            assert isinstance(batch.inputs, Tensor)
            total += workload.loss(forward(modules, batch.inputs), batch).item()
            count += batch.count
    return total / count / math.log(2)


@pytest.mark.parametrize("experts", [None, {"count": 4}])
def test_it_learns(root: Path, experts: dict[str, int] | None) -> None:
    workload = model(root, experts=experts)
    modules = build(workload)
    parameters = [p for module in modules for p in module.parameters()]
    before = validation(workload, modules)
    for step in range(40):
        batch = workload.batch(BatchId(step, 0))
        assert isinstance(batch.inputs, Tensor)
        loss = workload.loss(forward(modules, batch.inputs), batch) / batch.count
        for p, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= 0.01 * (1 - step / 40) * grad.sign()
    assert before > 7
    assert validation(workload, modules) < 2.5


def test_the_showcase_goes_on_from_the_prompt(root: Path) -> None:
    workload = model(root, sample={"prompt": "the c", "bytes": 12})
    modules = build(workload)
    shown = workload.showcase(modules)
    assert shown is not None
    assert shown.startswith("the c")
    assert shown == workload.showcase(modules)
    assert model(root, sample={"bytes": 0}).showcase(modules) is None


def test_the_fingerprint_finds_bad_data_early(root: Path) -> None:
    assert set(model(root).fingerprint()) == {
        f"{part}_{what}"
        for part in ("train", "validation")
        for what in ("sha256", "bytes", "documents")
    }
    with pytest.raises(ValueError, match="lower context"):
        model(root, context=100_000).fingerprint()


def test_building_reads_no_data(tmp_path: Path) -> None:
    assert model(tmp_path / "nowhere").layers()
