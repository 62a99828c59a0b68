"""The plug-in ``csgnn``: it learns, labels do not matter to it, and no layout shows in its bits."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile as Costs
from ithaca.runtime.config.load import load
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.engine.virtual import Verdict
from ithaca.runtime.workload import Batch, BatchId, Value
from ithaca.workloads.csgnn.batch import batch_of
from ithaca.workloads.csgnn.generated import walks
from ithaca.workloads.csgnn.graphs import relabelled
from ithaca.workloads.csgnn.structure import ProfileShape, cycles, profile
from ithaca.workloads.csgnn.workload import CSGNN, CSGNNConfig
from tests.helpers.fault_schedules import any_answer
from tests.helpers.virtual_job import EXACT, layout
from tests.helpers.virtual_run import Faults, VirtualRun

SMALL: dict[str, Any] = {
    "dim": 12,
    "num_layers": 4,
    "batch_size": 3,
    "structure": {"path": 3, "cycle": 6},
    "data": {"source": "walks", "graphs": 30, "vertices": 8},
}
MICRO_BATCHES = 4
LAYERS = 6
COSTS = Costs(tuple(Layer(str(i), 9, 9, 9, 9, 9, 1e-3, 2e-3) for i in range(LAYERS)))


def workload(**changes: Any) -> CSGNN:  # noqa: ANN401
    """A small graph network."""
    given = {**SMALL, **changes}
    return CSGNN(CSGNNConfig.model_validate(given), seed=1, micro_batches=MICRO_BATCHES)


def build(model: CSGNN) -> list[nn.Module]:
    """The layers under one seed."""
    torch.manual_seed(0)
    return [layer.build() for layer in model.layers()]


def forward(model: CSGNN, modules: list[nn.Module], batch: Batch) -> Tensor:
    """The output of all layers."""
    value: Value = batch.inputs
    for spec, module in zip(model.layers(), modules, strict=True):
        value = module(value, batch) if spec.needs_batch else module(value)
    assert isinstance(value, Tensor)
    return value


def loss(model: CSGNN, modules: list[nn.Module]) -> float:
    """The mean over a step's batches."""
    with torch.no_grad():
        batches = [model.batch(BatchId(0, index)) for index in range(MICRO_BATCHES)]
        total = sum(model.loss(forward(model, modules, b), b).item() for b in batches)
    return total / sum(batch.count for batch in batches)


@pytest.mark.parametrize(
    ("form", "output"), [("profile", "graph"), ("cells", "vertex"), ("both", "edge")]
)
def test_it_learns(form: str, output: str) -> None:
    model = workload(form=form, batch_size=6, data={**SMALL["data"], "output": output})
    modules = build(model)
    before = loss(model, modules)
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    for step in range(16):
        optimizer.zero_grad()
        for index in range(MICRO_BATCHES):
            batch = model.batch(BatchId(step, index))
            mean = model.loss(forward(model, modules, batch), batch) / batch.count
            mean.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    assert loss(model, modules) < 0.7 * before
    assert "mean absolute error" in (model.showcase(modules) or "")


@pytest.mark.parametrize("form", ["profile", "cells", "both"])
def test_labels_do_not_matter(form: str) -> None:
    """Equal outputs for relabelled graphs, to 1e-5 relative."""
    model = workload(form=form, structure={"path": 4, "cycle": 8})
    modules = build(model)
    plain, shape = walks(60, 20, "graph").graphs, ProfileShape(4, 8)
    outputs = []
    for seed in range(3):
        graphs = relabelled(plain, torch.Generator().manual_seed(seed)) if seed else plain
        found = profile(graphs, shape) if model.config.has_profile else None
        cells = cycles(graphs, 8) if model.config.has_cells else None
        structure = batch_of(graphs, found, cells, torch.zeros(0))
        types = torch.zeros(graphs.vertices, dtype=torch.int64)
        with torch.no_grad():
            outputs.append(forward(model, modules, Batch(types, structure, 1)))
    for other in outputs[1:]:
        error = (other - outputs[0]).norm(dim=1) / outputs[0].norm(dim=1)
        assert error.max() < 1e-5
    assert len(outputs[0].unique(dim=0)) > 40


# --- bits -----------------------------------------------------------------------------------------


def start(
    model: CSGNN, stages: tuple[int, ...], schedule: Schedule, rng: Random
) -> VirtualRun[Trainer]:
    """A run that has not begun."""
    return VirtualRun(
        lambda _, layers: Trainer(model, EXACT, layers),
        layout(LAYERS, stages, MICRO_BATCHES, schedule),
        COSTS,
        ties=(),
        split=(True,) * LAYERS,
        hashes=lambda trainer: {i: held.hash() for i, held in trainer.holdings.layers.items()},
        choose=any_answer(rng, COSTS),
    )


def undisturbed(model: CSGNN) -> VirtualRun[Trainer]:
    """On one worker."""
    whole = start(model, (1,), Schedule.GPIPE, Random(0))
    whole.run(3)
    return whole


@pytest.mark.parametrize("form", ["profile", "both"])
def test_no_layout_shows_in_the_bits(form: str) -> None:
    model = workload(form=form)
    whole = undisturbed(model)
    for stages in ((4,), (3, 2)):
        for schedule in Schedule:
            run = start(model, stages, schedule, Random(0))
            run.run(3)
            assert run.results == whole.results


@pytest.mark.parametrize("form", ["profile", "both"])
def test_losses_leave_no_trace(form: str) -> None:
    model = workload(form=form)
    whole, recoveries = undisturbed(model), 0
    for seed in range(4):
        rng = Random(seed)
        run = start(model, rng.choice([(2, 2), (2, 2, 2)]), rng.choice(list(Schedule)), rng)
        left = [rng.randrange(20, 160)]

        def watch(
            worker: int,
            _step: int,
            _request: object,
            left: list[int] = left,
            run: VirtualRun[Trainer] = run,
        ) -> Verdict:
            if left and run.spares(worker):
                left[0] -= 1
                if left[0] == 0:
                    left.pop()
                    return Verdict.KILL
            return Verdict.GO_ON

        run.faults = Faults(point=watch)
        with torch.random.fork_rng():
            run.run(3)
        assert run.results == whole.results
        recoveries += run.recoveries
    assert recoveries >= 3


def test_batches_of_another_order_do_show() -> None:
    """Control: the comparison sees it when a batch is not a function of its id."""
    whole = undisturbed(workload())
    model = workload()
    right = model.data.numbers

    def wrong(which: BatchId) -> tuple[Tensor, tuple[int, ...]]:
        chosen, samples = right(which)
        return (chosen.flip(0), samples) if which.step == 1 else (chosen, samples)

    model.data.numbers = wrong  # type: ignore[method-assign]
    other = undisturbed(model)
    assert other.results != whole.results


def test_the_quick_job_is_whole() -> None:
    root = Path(__file__).parents[4]
    assert load(root / "configs" / "csgnn_quick.yaml").job.name == "csgnn_quick"
