"""What a fault cost, from the lines of workers that we write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.peers.figures import Figures, UnfinishedError, figures, progress

WORKERS, SHARE, ROWS = 2, 2, 16


def step_lines(step: int, time_s: float, workers: tuple[int, ...] = (0, 1)) -> Iterator[Any]:
    """A step that ``workers`` commit at ``time_s``."""
    for worker in workers:
        mine = list(range(worker * SHARE, (worker + 1) * SHARE))
        common = {"worker": worker, "step": step}
        yield from (
            {"kind": "computed", "time_s": time_s - 0.5, "micro_batch": m, **common} for m in mine
        )
        late = 0.01 * worker
        yield {"kind": "committed", "time_s": time_s + late, "micro_batches": mine, **common}


def finished(state_hash: str = "a") -> list[Any]:
    """Both workers end alike."""
    return [
        {"kind": "finished", "time_s": 99.0, "worker": worker, "hash": state_hash}
        for worker in range(WORKERS)
    ]


def cost(lines: list[Any], steps: int, fault_step: int = 0) -> Figures:
    """The figures of a job of two workers with two micro-batches each."""
    return figures(
        lines, steps=steps, micro_batches=WORKERS * SHARE, rows=ROWS, fault_step=fault_step
    )


def test_nothing_is_lost_or_repeated_without_a_fault() -> None:
    lines = [line for step in range(1, 5) for line in step_lines(step, float(step))]
    found = cost([*lines, *finished()], steps=4)
    assert found.step_s == pytest.approx(1.0)
    assert found.pause_s == pytest.approx(0.0)
    assert (found.steps_repeated, found.samples_repeated, found.samples_lost) == (0, 0, 0)
    assert found.state_hash == "a"


def test_a_restart_repeats_the_steps_behind_its_checkpoint() -> None:
    # Steps 1 to 4, a checkpoint behind step 2, a kill in step 5; restarted after 10 s.
    lines = [line for step in range(1, 5) for line in step_lines(step, float(step))]
    lines.append({"kind": "computed", "time_s": 4.5, "worker": 0, "step": 5, "micro_batch": 0})
    lines += [line for step in range(3, 7) for line in step_lines(step, step + 11.0)]
    found = cost([*lines, *finished()], steps=6, fault_step=5)
    assert found.stall_s == pytest.approx(9.0)  # from step 4 at 4 s to step 3 again at 14 s
    assert found.pause_s == pytest.approx(11.0)  # to step 5 at 16 s
    assert found.steps_repeated == 2
    assert found.samples_repeated == (2 * WORKERS * SHARE + 1) * ROWS
    assert found.samples_lost == 0
    assert [step for _, step in progress(lines)] == [1, 2, 3, 4, 3, 4, 5, 6]


def test_steps_without_a_worker_lose_its_samples() -> None:
    lines = [line for step in range(1, 4) for line in step_lines(step, float(step))]
    lines += step_lines(4, 9.0, workers=(0,))
    lines += step_lines(5, 10.0)
    found = cost([*lines, *finished()], steps=5, fault_step=4)
    assert found.pause_s == pytest.approx(5.0)
    assert found.steps_repeated == 0
    assert found.samples_lost == SHARE * ROWS


def test_workers_that_end_differently_are_noticed() -> None:
    lines = [*step_lines(1, 1.0), *step_lines(2, 2.0), *finished("a")]
    other = {**lines[-1], "time_s": 98.0, "hash": "b"}
    assert cost([other, *lines], steps=2).state_hash == "a"  # it was started again
    with pytest.raises(UnfinishedError, match="2 different final states"):
        cost([*lines, {**other, "time_s": 99.5}], steps=2)
    with pytest.raises(UnfinishedError, match="0 different"):
        cost(list(step_lines(1, 1.0)), steps=1)
