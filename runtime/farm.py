"""Many small jobs that do not talk to each other, as Ray tasks.

A job is a pure function of one argument, so that it may run twice: a task whose worker dies is
started again elsewhere, and the answers are the same as without the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ithaca.runtime.cluster import SLOT, Cluster

Given = TypeVar("Given")
Answer = TypeVar("Answer")

RETRIES = 8
"""Times that a job is started again after its worker was lost."""


def _one_thread(function: Callable[[Given], Answer], given: Given) -> Answer:
    """As in a worker of a job: numbers depend on the number of threads."""
    import torch

    torch.set_num_threads(1)
    return function(given)


def farm(
    cluster: Cluster, function: Callable[[Given], Answer], jobs: Sequence[Given]
) -> Iterator[tuple[int, Answer]]:
    """The answers of all jobs with their numbers, as they come.

    As many run at once as the cluster has slots; no more than twice as many are handed out, so
    that jobs given first are done first. Who stops asking for answers cancels the rest.

    Args:
        cluster: where they run.
        function: of a module that the cluster's workers can import; pure.
        jobs: its arguments.

    Raises:
        ray.exceptions.RayTaskError: a job raised an error, which is its cause.
        ray.exceptions.WorkerCrashedError: a job lost its worker time and again.
    """
    import ray

    slots = int(sum(node.resources.get(SLOT, 0) for node in cluster.nodes()))
    task: Any = ray.remote(num_cpus=0, resources={SLOT: 1}, max_retries=RETRIES)(_one_thread)
    waiting = iter(enumerate(jobs))
    running: dict[Any, int] = {}

    def hand_out() -> None:
        while len(running) < 2 * max(slots, 1):
            number, given = next(waiting, (-1, None))
            if number < 0:
                return
            running[task.remote(function, given)] = number

    hand_out()
    try:
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done[0])
            answer: Answer = ray.get(done[0])
            hand_out()
            yield number, answer
    finally:
        for left in running:
            ray.cancel(left, force=True)
