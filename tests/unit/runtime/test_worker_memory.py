"""A worker's engine under a budget: the bits of one without, within the budget, no leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ithaca.planner.profile import MemoryCost, Profile
from ithaca.runtime.config.load import load
from ithaca.runtime.config.memory import MemoryConfig
from ithaca.runtime.config.plugin import find_workload
from ithaca.runtime.engine.interpreter import AHEAD
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.estimate import static_profile
from ithaca.runtime.memory import WorkerMemory
from ithaca.runtime.workload import Workload
from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError
from tests.helpers.held_memory import held_bytes
from tests.helpers.real_job import write_job
from tests.helpers.virtual_job import BF16, EXACT, Record, VirtualJob, layout
from tests.unit.swap.even_times import USUAL_SECONDS, set_times

LM = {
    "use": "lm",
    "dim": 64,
    "num_layers": 4,
    "num_heads": 2,
    "context": 64,
    "batch_size": 8,
    "sample": {"bytes": 0},
}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Workload, Profile]:
    """A language model of six layers, and its sizes."""
    loaded = load(write_job(tmp_path / "jobs", workload=LM))
    job = loaded.job
    workload = find_workload("lm")(loaded.workload_config, seed=5, micro_batches=8)
    return workload, static_profile(workload, job)


def job_of(workload: Workload, settings: EngineSettings) -> VirtualJob:
    """One worker."""
    return VirtualJob(workload, layout(6, (1,)), settings)


@contextmanager
def under(job: VirtualJob, config: MemoryConfig, profile: Profile | None) -> Iterator[WorkerMemory]:
    """The job's one worker under a budget."""
    memory = WorkerMemory(config, job.trainers[0], profile, exact=True)
    try:
        yield memory
    finally:
        memory.suspend()


def steps(job: VirtualJob, memory: WorkerMemory, count: int) -> list[Record]:
    """Steps as the worker's training does them."""
    records = []
    for _ in range(count):
        memory.begin_step(job.programs[0], rest=False)
        records.append(job.step())
        memory.end_step()
    return records


@pytest.mark.parametrize("settings", [EXACT, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("disk", [True, False], ids=["disk", "recompute"])
def test_40_percent_change_no_bit(
    made: tuple[Workload, Profile], settings: EngineSettings, disk: bool, tmp_path: Path
) -> None:
    workload, profile = made
    allocator.install()
    reference = job_of(workload, settings).run(4)
    job = job_of(workload, settings)
    folder = {"folder": str(tmp_path), "limit": "1GiB"} if disk else {}
    with under(job, MemoryConfig.model_validate({"budget": "40%", **folder}), profile) as memory:
        assert steps(job, memory, 4) == reference
        used = memory.used(0, 4)
    assert used is not None
    assert used.peak_bytes <= used.budget_bytes
    assert used.plan_hits > 0.9
    assert (used.out_bytes > 1 << 20) if disk else (used.replays > 0)
    assert used.decisions
    assert allocator.usage().cap is None
    assert {path.name for path in tmp_path.iterdir()} == {"jobs"}


@pytest.mark.parametrize("settings", [EXACT, BF16], ids=["fp32", "bf16"])
def test_what_is_there_all_the_time_does_not_cost_the_plan(
    made: tuple[Workload, Profile], settings: EngineSettings, tmp_path: Path
) -> None:
    """A share of it is more than the activations could leave free."""
    held = torch.zeros(32 << 20)
    test_40_percent_change_no_bit(made, settings, disk=False, tmp_path=tmp_path)
    del held


def test_without_recompute_all_of_it_goes_to_the_disk(
    made: tuple[Workload, Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the disk is so slow that layers would be computed again."""
    set_times(monkeypatch, lambda: USUAL_SECONDS, lambda: 1e6)
    workload, profile = made
    allocator.install()
    reference = job_of(workload, EXACT).run(4)
    told = []
    for recompute in (True, False):
        job = job_of(workload, EXACT)
        disk = {"folder": str(tmp_path), "limit": "1GiB", "recompute": recompute}
        with under(job, MemoryConfig.model_validate({"budget": "50%", **disk}), profile) as memory:
            assert steps(job, memory, 4) == reference
            told.append(memory.used(0, 4))
    mixed, moved = told
    assert mixed is not None
    assert moved is not None
    assert {action for _, _, action, _ in moved.decisions} <= {"keep", "swap"}
    assert moved.replays == moved.recompute_s == 0
    assert mixed.replays > 0


def test_room_is_left_for_what_is_received_ahead_once_shapes_are_known(
    made: tuple[Workload, Profile],
) -> None:
    workload, _ = made
    job = VirtualJob(workload, layout(6, (2,)), EXACT)
    later = []
    for _ in range(2):
        job.train()
        later.append({trainer.later_bytes for trainer in job.trainers.values()})
    micro_batch = 8 * 64 * 64 * 4
    assert later == [{AHEAD * micro_batch}, {0}]


def test_a_plan_leaves_room_for_what_the_engine_foresees(
    made: tuple[Workload, Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload, profile = made
    allocator.install()
    least = []
    for later in (0, 5 << 20):
        monkeypatch.setattr(Trainer, "later_bytes", later)
        job = job_of(workload, EXACT)
        with under(job, MemoryConfig(budget="90%"), profile) as memory:
            before = held_bytes()
            steps(job, memory, 1)
            assert memory._session is not None
            (trace,) = memory._session.traces()
            least.append(min(point.base_bytes for point in trace.points) - before)
    assert least[1] - least[0] == pytest.approx(5 << 20, rel=0.01)


def test_costs_are_shares_and_slowdowns(made: tuple[Workload, Profile], tmp_path: Path) -> None:
    workload, profile = made
    allocator.install()
    job = job_of(workload, EXACT)
    config = MemoryConfig(budget="60%", folder=str(tmp_path), limit=1 << 30)
    with under(job, config, profile) as memory:
        steps(job, memory, 3)
        rows = memory.costs()
    assert all(isinstance(row, MemoryCost) for row in rows)
    assert [row.share for row in rows] == sorted(row.share for row in rows)
    assert [row.slowdown for row in rows] == sorted((r.slowdown for r in rows), reverse=True)
    assert rows[-1].share == pytest.approx(1)
    assert rows[-1].slowdown == 1
    assert rows[0].share < 0.6


def test_a_session_follows_the_layers_and_can_be_suspended_in_a_step(
    made: tuple[Workload, Profile], tmp_path: Path
) -> None:
    workload, profile = made
    allocator.install()
    reference = job_of(workload, EXACT).run(4)
    job = job_of(workload, EXACT)
    config = MemoryConfig(budget="40%", folder=str(tmp_path), limit=1 << 30)
    with under(job, config, profile) as memory:
        records = steps(job, memory, 2)
        memory.suspend()
        assert allocator.usage().cap is None
        memory.begin_step(job.programs[0], rest=True)
        records.append(job.step())  # the rest of a step that was interrupted: without a session
        memory.end_step()
        records += steps(job, memory, 1)
        assert allocator.usage().cap is not None
    assert records == reference


def test_a_budget_that_cannot_do_says_what_would(made: tuple[Workload, Profile]) -> None:
    workload, _ = made
    allocator.install()
    job = job_of(workload, EXACT)
    held = sum(
        p.nbytes for layer in job.trainers[0].holdings.layers.values() for p in layer.masters
    )
    needed = held_bytes() + held // 8
    with under(job, MemoryConfig(budget=f"{needed}B"), None) as memory:
        memory.begin_step(job.programs[0], rest=False)
        with pytest.raises(torch.OutOfMemoryError) as caught:
            job.train()
        refused = memory.refused(caught.value)
    assert isinstance(refused, BudgetError)
    assert refused.needed_bytes > needed
    assert "memory.budget" in str(refused)
    assert "memory.folder" in str(refused)
    assert allocator.usage().cap is None
