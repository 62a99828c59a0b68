"""What a run under a fault cost, from the lines that its workers wrote; pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Line = Mapping[str, Any]
"""A line of a worker: ``kind``, ``time_s``, ``worker``, and what the kind has besides."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared.

    Attributes:
        step_s: median seconds from one step to the next, before the fault.
        stall_s: longest time without any committed step, beyond ``step_s``.
        pause_s: from the last step before the fault to the first *new* one - not one that had been
            committed before - beyond ``step_s``.
        steps_repeated: steps that were committed more than once.
        samples_repeated: samples whose forward and backward were done again.
        samples_lost: samples of the job that are in no step of the final state.
        state_hash: of the final state, as the arm hashes it.
    """

    step_s: float
    stall_s: float
    pause_s: float
    steps_repeated: int
    samples_repeated: int
    samples_lost: int
    state_hash: str


class UnfinishedError(RuntimeError):
    """The run did not come to its last step everywhere, or its workers differ at the end."""


def progress(lines: Iterable[Line]) -> list[tuple[float, int]]:
    """When each step was committed: by the first worker that says so, once an attempt.

    A step that several workers commit together is one entry; one that is committed anew after the
    job went back to a checkpoint is another.
    """
    first: dict[tuple[int, int], float] = {}
    attempt: Counter[tuple[int, int]] = Counter()
    for line in sorted(lines, key=_time_s):
        if line["kind"] == "committed":
            worker_step = line["worker"], line["step"]
            attempt[worker_step] += 1
            first.setdefault((line["step"], attempt[worker_step]), line["time_s"])
    return sorted((time_s, step) for (step, _), time_s in first.items())


def pauses(commits: Sequence[tuple[float, int]], fault_step: int) -> tuple[float, float, float]:
    """The normal step, the longest stall beyond it, and the pause until the faulted step is done.

    Args:
        commits: as from :func:`progress`.
        fault_step: counted from 1; 0 for none, and then stall and pause are those of the
            slowest step.
    """
    gaps = [(later - earlier, step) for (earlier, _), (later, step) in pairwise(commits)]
    if not fault_step:
        step_s = statistics.median(gap for gap, _ in gaps)
        longest = max(gap for gap, _ in gaps) - step_s
        return step_s, longest, longest
    done = {step: time_s for time_s, step in reversed(commits)}
    last_s, new_s = done[fault_step - 1], done[fault_step]
    calm = [gap for gap, step in gaps if step < fault_step]
    step_s = statistics.median(calm[: fault_step - 2])
    stall = max(
        later - earlier for (earlier, _), (later, _) in pairwise(commits) if earlier >= last_s
    )
    return step_s, stall - step_s, new_s - last_s - step_s


def figures(
    lines: Sequence[Line], *, steps: int, micro_batches: int, rows: int, fault_step: int
) -> Figures:
    """The figures of a run.

    Args:
        lines: of all workers.
        steps: of the job.
        micro_batches: of a step.
        rows: samples of a micro-batch.
        fault_step: counted from 1; 0 for none.

    Raises:
        UnfinishedError: there is no final state, or there are several.
    """
    ended = sorted((line for line in lines if line["kind"] == "finished"), key=_time_s)
    hashes = set({line["worker"]: line["hash"] for line in ended}.values())
    if len(hashes) != 1:
        raise UnfinishedError(f"{len(hashes)} different final states: {sorted(hashes)}")
    commits = progress(lines)
    step_s, stall_s, pause_s = pauses(commits, fault_step)
    computed = Counter(
        (line["step"], line["micro_batch"]) for line in lines if line["kind"] == "computed"
    )
    repeats = Counter(step for _, step in commits)
    return Figures(
        step_s=step_s,
        stall_s=stall_s,
        pause_s=pause_s,
        steps_repeated=sum(times - 1 for times in repeats.values()),
        samples_repeated=rows * sum(times - 1 for times in computed.values()),
        samples_lost=rows * (steps * micro_batches - _used(lines)),
        state_hash=next(iter(hashes)),
    )


def _time_s(line: Line) -> float:
    seconds: float = line["time_s"]
    return seconds


def _used(lines: Iterable[Line]) -> int:
    """Micro-batches in the gradients of the final trajectory: each worker's last say counts."""
    last: dict[tuple[int, int], Sequence[int]] = {}
    for line in sorted(lines, key=_time_s):
        if line["kind"] == "committed":
            last[line["worker"], line["step"]] = line["micro_batches"]
    return sum(len(used) for used in last.values())
