"""``python -m benchmarks.tuner.pause``: pausing a trial of some size, and going on elsewhere.

A trial is paused when a second process holds its bytes. Measured from the end of a step:
transfer to the second process, its answer; then, in that second process, loading the state into the
tensors of a training. Real processes on this machine, as ``ithaca tune`` starts them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ithaca.runtime.cluster import Cluster
from ithaca.tuners.loop.state import view
from ithaca.tuners.loop.trial_actor import TrialActor


class Measured(TrialActor):
    """A process that holds tensors like a training's, and times the two ways."""

    def fill(self, megabytes: int) -> None:
        """Tensors of this size in all, in 16 layers."""
        each = megabytes * 2**20 // 4 // 16
        self._tensors = {f"layer{i}": {"param.w": torch.randn(each)} for i in range(16)}

    def pause(self, step: int, to: int) -> float:
        """Seconds from the end of a step until process ``to`` holds the state."""
        began = time.perf_counter()
        self._deliver(to, view(0, step, self._tensors))
        return time.perf_counter() - began

    def resume(self, megabytes: int) -> tuple[float, int]:
        """Seconds to load the state that is held into tensors that are there; its step."""
        each = megabytes * 2**20 // 4 // 16
        targets = {f"layer{i}": torch.zeros(each) for i in range(16)}
        began = time.perf_counter()
        state = self.give(0)
        assert state is not None
        for name, parts in state.tensors().items():
            targets[name].copy_(parts["param.w"])
        return time.perf_counter() - began, state.step


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    import ray

    with Cluster.start(2, paths=[Path.cwd()]):
        actor: Any = ray.remote(Measured).options(num_cpus=0, max_concurrency=4)
        crew = [actor.remote(number, 1) for number in range(2)]
        ray.get([each.meet.remote((0, 1), *crew) for each in crew])
        ray.get([each.fill.remote(arguments.megabytes) for each in crew])
        pauses, resumes = [], []
        for step in range(1, arguments.rounds + 1):
            pauses.append(ray.get(crew[0].pause.remote(step, 1)))
            seconds, at = ray.get(crew[1].resume.remote(arguments.megabytes))
            assert at == step
            resumes.append(seconds)
        both = np.array(pauses) + np.array(resumes)
        print(
            f"{arguments.megabytes} MB, {arguments.rounds} rounds: pause {median(pauses):.3f} s, "
            f"resume elsewhere {median(resumes):.3f} s, both {np.median(both):.3f} s "
            f"(lowest {both.min():.3f}, highest {both.max():.3f})"
        )


if __name__ == "__main__":
    main()
