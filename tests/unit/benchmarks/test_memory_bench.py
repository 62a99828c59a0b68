"""The arms of the memory benchmark end with the same bits; its table can be gone on with."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.memory import gpu, observer, predicted, smallest
from ithaca.swap import allocator
from ithaca.swap.bench import cells
from ithaca.swap.bench.arms import ARMS, CPU_ARMS, FIXED_ARMS, GPU_ARMS, Limits
from ithaca.swap.bench.cells import FIELDS, Cell, budget_of, fill, known
from ithaca.swap.bench.changes import variations
from ithaca.swap.bench.link import link_speeds
from ithaca.swap.bench.models import CPU, GPU, LARGE, TINY
from ithaca.swap.bench.rival import PLAIN, Setting, Taken, Trainer, Variation
from tests.helpers.held_memory import held_bytes


def trained(model: str, arm: str, budget: int, folder: Path) -> tuple[str, list[Taken]]:
    """Hash of the parameters after four steps, and what each took."""
    trainer = Trainer(Setting(model, arm, Limits(budget, folder), threads=1))
    try:
        taken = [trainer.step() for _ in range(4)]
        return trainer.digest(), taken
    finally:
        trainer.close()


@pytest.mark.parametrize("model", [model.name for model in TINY])
def test_all_arms_end_with_the_same_bits(model: str, tmp_path: Path) -> None:
    allocator.install()
    base = held_bytes()  # of other tests
    reference, free = trained(model, "nothing", 0, tmp_path)
    last = replace(free[-1], peak_bytes=free[-1].peak_bytes - base)
    budget = base + budget_of(last, 60)
    for arm in CPU_ARMS[1:]:
        if arm == "recompute only" and model != "tiny":
            continue  # their blocks, run again, do not make room enough
        gc.collect()
        digest, taken = trained(model, arm, budget, tmp_path)
        assert digest == reference, arm
        if arm not in FIXED_ARMS:
            assert max(step.peak_bytes for step in taken) <= budget, arm


def test_variations_are_steps_of_the_same_training(tmp_path: Path) -> None:
    allocator.install()
    budget = held_bytes() + (1 << 24)  # beside what other tests hold
    digests = []
    for arm in ("nothing", "ours"):
        trainer = Trainer(Setting("tiny", arm, Limits(budget, tmp_path), threads=1))
        for variation in (PLAIN, *variations("tiny").values(), PLAIN):
            trainer.step(variation)
        digests.append(trainer.digest())
        trainer.close()
    assert digests[0] == digests[1]
    assert Variation() == PLAIN


def test_a_table_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Cell] = []

    def measure(cell: Cell, arms: list[str], *_: object, timed: bool) -> list[dict[str, str]]:
        measured.append(cell)
        key = dict(zip(FIELDS[:4], cell.key, strict=True))
        key["median_s"] = "1.0" if timed else ""
        return [dict.fromkeys(FIELDS, "") | key | {"arm": arm} for arm in arms]

    monkeypatch.setattr(cells, "measure", measure)
    path, arms = tmp_path / "table.csv", ["nothing", "ours"]
    todo = [Cell("tiny", 40), Cell("tiny", 15)]
    first = iter(fill(path, todo, arms, tmp_path, 1))
    next(first)  # and then it is cut short
    del first
    assert list(known(path)) == [todo[0].key]
    assert len(list(fill(path, todo, arms, tmp_path, 1))) == 1
    assert measured == todo
    assert len(list(fill(path, todo, arms, tmp_path, 1))) == 0
    assert list(fill(path, todo, arms, tmp_path, 1, timed=False)) == []


def test_times_are_added_to_a_table_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done(*_: object, **__: object) -> cells._Measured:
        taken = {arm: [Taken(seconds=2.0, peak_bytes=1 << 20)] for arm in ("nothing", "ours")}
        return cells._Measured(1 << 21, taken, dict.fromkeys(taken, "abcd"), bound=1.0)

    monkeypatch.setattr(cells, "_one_by_one", done)
    monkeypatch.setattr(cells, "_in_turns", done)
    path, todo, arms = tmp_path / "table.csv", [Cell("tiny", 60)], ["nothing", "ours"]
    (without,) = fill(path, todo, arms, tmp_path, 1, timed=False)
    assert [row["same_bits"] for row in without] == ["True", "True"]
    assert {row[name] for row in without for name in cells.TIMES} == {""}
    assert {row["peak_MiB"] for row in without} == {"1.0"}
    (whole,) = fill(path, todo, arms, tmp_path, 1)
    assert [row["median_s"] for row in whole] == ["2.0000", "2.0000"]
    assert len(known(path)) == 1


def test_models_and_arms_are_all_there() -> None:
    assert [model.name for model in CPU] == ["h512 L8", "h256 L24", "bf16 h512 L8", "MoE h256 L8"]
    assert len(GPU) == 6
    assert set(GPU_ARMS) == set(ARMS) >= {"offload", "save_on_cpu", "published", "ours"}
    for model in GPU:
        with torch.device("meta"):
            assert sum(p.numel() for p in model.block(0).parameters()) > 10**6


def test_the_programs_for_a_gpu_and_the_observer_can_be_imported(tmp_path: Path) -> None:
    assert callable(link_speeds)
    for model in LARGE:
        assert gpu.unlimited_bytes(model.name) > 4 * 20 * gpu.GB
    assert observer.operators(observer.TINY) > 100
    tiny = TINY[0].make(torch.device("cpu"))
    held = sum(parameter.nbytes for parameter in tiny.parameters())
    assert smallest.floor_bytes(TINY[0]) > 2 * held
    assert callable(predicted.compare)
    seconds = observer.timed(observer.TINY, 1, observer.ARMS)
    assert {len(values) for values in seconds.values()} == {1}


def test_one_arm_after_the_other_measures_what_turns_do(tmp_path: Path) -> None:
    """As on a GPU, whose memory is for one at a time: also an arm that fails at once."""
    cell = Cell("tiny", -100)  # less than what is always there
    setting = Setting("tiny", "nothing", Limits(0, tmp_path), threads=1)
    arms = ("nothing", "full checkpointing", "ours")
    done = cells._one_by_one(cell, setting, arms, rounds=1)
    assert list(done.taken) == list(arms)
    assert done.digests["full checkpointing"] == done.digests["nothing"] != ""
    assert done.taken["ours"][-1].refused
    assert done.digests["ours"] == ""
    assert cells._same_bits(done, "full checkpointing") == "True"
    # One that is refused later has other parameters, as its last step is another one.
    done.digests["ours"] = "of an earlier step"
    assert cells._same_bits(done, "ours") == ""
    done.digests["full checkpointing"] = "others"
    assert cells._same_bits(done, "full checkpointing") == "False"
