"""The simulator against real steps: ``python benchmarks/simulator.py [--csv FILE]``.

Compute is emulated: every layer waits a fixed time in its forward and backward, so that workers
do not share cores and a small machine can play a large one. Everything else is real: processes,
gloo, reductions, commits, the interpreter. Link and overhead are measured first, between two
processes and on one; then the step time of each layout is predicted from them and compared.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import BaseModel
from torch import Tensor, nn

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.reroute import rerouted
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from ithaca.runtime.engine.drive import drive
from ithaca.runtime.engine.gloo import GlooChannel
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Value, Workload

LAYERS, WIDTH, ROWS, MICRO_BATCHES = 8, 256, 128, 8
FORWARD_S, BACKWARD_S = 0.010, 0.020
STEPS = 6
WORKERS = 8


class _Wait(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        time.sleep(FORWARD_S)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ANN401
        time.sleep(BACKWARD_S)
        return gradient


class Emulated(nn.Module):
    """A small linear layer that takes as long as a large one."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [rows, width], and so is the result."""
        return _Wait.apply(self.mix(x))  # type: ignore[no-any-return]


class Nothing(BaseModel):
    """No options."""


class EmulatedWorkload(Workload):
    """A stack of :class:`Emulated` layers on random rows."""

    Config = Nothing

    def __init__(self, config: Nothing, *, seed: int, micro_batches: int) -> None:
        self._seed = seed

    def layers(self) -> Sequence[LayerSpec]:
        """All alike."""
        return [LayerSpec(f"layer{i}", Emulated) for i in range(LAYERS)]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """Sum of squares."""
        assert isinstance(output, Tensor)
        return output.float().square().sum()

    def batch(self, which: BatchId) -> Batch:
        """Random rows, by id."""
        generator = torch.Generator().manual_seed(which.step * 1000 + which.index)
        return Batch(torch.randn(ROWS, WIDTH, generator=generator).requires_grad_(), None, ROWS)


@dataclass(frozen=True)
class Layout:
    """Pipelines, each with its layers per stage; without the ``lost`` workers, by detours."""

    name: str
    splits: tuple[tuple[int, ...], ...]
    schedule: Schedule = Schedule.ONE_F_ONE_B
    lost: tuple[int, ...] = ()

    def plan(self) -> Plan:
        """Micro-batches in equal blocks, then detours around who is lost."""
        pipelines, worker = [], 0
        for number, sizes in enumerate(self.splits):
            stages, first = [], 0
            for size in sizes:
                stages.append(Stage(Span(first, first + size), worker))
                first, worker = first + size, worker + 1
            low = MICRO_BATCHES * number // len(self.splits)
            high = MICRO_BATCHES * (number + 1) // len(self.splits)
            pipelines.append(Pipeline(tuple(stages), tuple(range(low, high))))
        plan = Plan(tuple(pipelines), self.schedule)
        if not self.lost:
            return plan
        around = rerouted(plan, self.lost)
        assert around is not None, "some pipeline is whole"
        return around


LAYOUTS = (
    Layout("1x1", ((8,),)),
    Layout("1x2", ((4, 4),)),
    Layout("2x1", ((8,), (8,))),
    Layout("2x2", ((4, 4), (4, 4))),
    Layout("1x4", ((2, 2, 2, 2),)),
    Layout("1x4 gpipe", ((2, 2, 2, 2),), Schedule.GPIPE),
    Layout("4x1", ((8,), (8,), (8,), (8,))),
    Layout("2x4", ((2, 2, 2, 2), (2, 2, 2, 2))),
    Layout("4x2", ((4, 4),) * 4),
    Layout("3+2 uneven", ((3, 3, 2), (5, 3))),
    Layout("1x3 skewed", ((4, 2, 2),)),
    Layout("2x2 without 1", ((4, 4),) * 2, lost=(1,)),
    Layout("2x4 without 2", ((2, 2, 2, 2),) * 2, lost=(2,)),
    Layout("4x2 without 1", ((4, 4),) * 4, lost=(1,)),
    Layout("4x2 without 1, 4", ((4, 4),) * 4, lost=(1, 4)),
    Layout("4x1 without 3", ((8,),) * 4, lost=(3,)),
)
ADAMW = OptimizerSettings(1e-3, (0.9, 0.95), 1e-8, 0.0, 1.0, "constant", 0, 0.1, 10**6)
SETTINGS = EngineSettings(0, True, torch.float32, False, ADAMW)


def measure_link(channel: GlooChannel, sizes: Sequence[int], rounds: int = 40) -> list[float]:
    """Seconds of one message of each size in bytes, between workers 0 and 1."""
    times = []
    for size in sizes:
        content = torch.zeros(size // 4)
        samples = []
        for _ in range(rounds):
            began = time.perf_counter()
            for sender in (0, 1):
                if channel.worker == sender:
                    channel.send(1 - sender, 7, content)
                    channel.settle()
                else:
                    channel.receive(1 - channel.worker, 7, content).wait()
            samples.append((time.perf_counter() - began) / 2)
        times.append(statistics.median(samples))
    return times


def _rank(rank: int, port: int, results: Any) -> None:  # noqa: ANN401
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    everybody = dist.PrefixStore("everybody", store)
    if rank < 2:
        channel = GlooChannel(store, 1000, rank, (0, 1), 120.0, "127.0.0.1")
        times = measure_link(channel, (64, 2**20))
        if rank == 0:
            results.put(("link", times))
    for generation, layout in enumerate(LAYOUTS):
        plan = layout.plan()
        if rank in plan.workers:
            channel = GlooChannel(store, generation, rank, plan.workers, 120.0, "127.0.0.1")
            seconds = run_steps(plan, channel)
            if rank == plan.workers[0]:
                results.put((layout.name, seconds))
        everybody.add(f"done-{generation}", 1)
        while everybody.add(f"done-{generation}", 0) < WORKERS:
            time.sleep(0.05)


def run_steps(plan: Plan, channel: GlooChannel) -> list[float]:
    """Seconds of each step but the first."""
    workload = EmulatedWorkload(Nothing(), seed=0, micro_batches=MICRO_BATCHES)
    trainer = Trainer(workload, SETTINGS, plan.held(channel.worker))
    trainer.connect(channel)
    program = programs(plan)[channel.worker]
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        drive(trainer.train_step(program), lambda _: None, time.perf_counter, [])
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def profile_of(link: Sequence[float], alone: float) -> Profile:
    """The layers' known waits, the measured link, and the overhead seen on one worker.

    Args:
        link: seconds of a message of 64 bytes and of 1 MiB.
        alone: seconds of a step on one worker, which has no message and no bubble.
    """
    waits = LAYERS * MICRO_BATCHES * (FORWARD_S + BACKWARD_S)
    # What a step on one worker takes beyond its waits is the layers' own arithmetic.
    extra = max(0.0, alone - waits) / (LAYERS * MICRO_BATCHES)
    size = ROWS * WIDTH * 4
    parameters = (WIDTH + 1) * WIDTH * 4
    layer = Layer(
        "layer",
        param_bytes=parameters,
        grad_bytes=parameters,
        state_bytes=2 * parameters,
        activation_bytes=2 * size,
        output_bytes=size,
        forward_s=FORWARD_S + extra / 3,
        backward_s=BACKWARD_S + extra * 2 / 3,
        input_s=BACKWARD_S,
        weight_s=0.0,
        step_s=1e-4,
    )
    rate = 2**20 / max(1e-6, link[1] - link[0])
    origin = {"times": "emulated waits", "link": "measured between two processes"}
    return Profile((layer,) * LAYERS, Link(link[0], rate), origin=origin)


def measure() -> dict[str, list[float]]:
    """What the processes measured, by layout, and the link."""
    context = mp.get_context("spawn")
    results = context.Queue()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [
        context.Process(target=_rank, args=(rank, store.port, results)) for rank in range(WORKERS)
    ]
    for process in processes:
        process.start()
    measured = dict(results.get(timeout=600) for _ in range(len(LAYOUTS) + 1))
    for process in processes:
        process.join(60)
    return measured


def main() -> None:
    """Measure, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    measured = measure()
    link = measured.pop("link")
    profile = profile_of(link, statistics.median(measured["1x1"]))
    print(f"link: {link[0] * 1e6:.0f} us, {profile.link.bytes_per_s / 1e6:.0f} MB/s")
    rows = []
    for layout in LAYOUTS:
        real = statistics.median(measured[layout.name])
        predicted = simulate(programs(layout.plan(), profile.layers), profile).step_s
        error = predicted / real - 1
        rows.append((layout.name, real, predicted, error))
        print(f"{layout.name:16} measured {real:.3f} s, predicted {predicted:.3f} s, {error:+.1%}")
    # 1x1 calibrates the arithmetic, so it does not count.
    errors = [abs(error) for *_, error in rows[1:]]
    mean, largest = statistics.mean(errors), max(errors)
    print(f"{len(errors)} layouts: mean error {mean:.1%}, largest {largest:.1%}")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["layout", "measured_s", "predicted_s", "error"])
            writer.writerows([n, f"{r:.6f}", f"{p:.6f}", f"{e:.4f}"] for n, r, p, e in rows)


if __name__ == "__main__":
    main()
