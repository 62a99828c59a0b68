"""The engine against plain PyTorch: ``python benchmarks/engine.py [--rounds N] [--csv FILE]``.

Every arm trains the same decoder on the same batches in the same processes; arms take turns, a few
steps each, so that a machine that drifts drifts for all. Reported are medians over rounds of
paired ratios: steps per second of ours over theirs, so 1 is as fast and more is faster.

- ``1x1``: ours (exact) against a hand-written loop: forward, ``loss.backward()`` and accumulation
  per micro-batch, clipping, fused AdamW.
- ``2x2``: ours (exact, fast) against ``torch.distributed.pipelining``'s 1F1B with two stages in
  two replicas and one flat all-reduce of the gradients per stage, clipping, fused AdamW.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.runtime.engine.drive import drive
from ithaca.runtime.engine.gloo import GlooChannel
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.trainer import EngineSettings, Trainer
from ithaca.runtime.workload import Batch, BatchId
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.workload import LM

MICRO_BATCHES = 8
LR, CLIP = 1e-3, 1.0


@dataclass(frozen=True)
class Shape:
    """The size of the model and of a micro-batch."""

    dim: int = 256
    num_layers: int = 4
    context: int = 128
    batch_size: int = 4

    def workload(self) -> LM:
        """The decoder, on Python's own text."""
        config = LMConfig(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=4,
            context=self.context,
            batch_size=self.batch_size,
        )
        return LM(config, seed=0, micro_batches=MICRO_BATCHES)


def settings(exact: bool) -> EngineSettings:
    """The engine as the arms compare it."""
    adamw = OptimizerSettings(LR, (0.9, 0.95), 1e-8, 0.0, CLIP, "constant", 0, 0.1, 10**6)
    return EngineSettings(0, exact, torch.float32, False, adamw)


class Ours:
    """Our engine on one worker of a plan."""

    def __init__(self, workload: LM, plan: Plan, exact: bool, channel: GlooChannel) -> None:
        self._trainer = Trainer(workload, settings(exact), plan.held(channel.worker))
        self._trainer.connect(channel)
        self._program = programs(plan)[channel.worker]

    def step(self) -> None:
        """One training step."""
        drive(self._trainer.train_step(self._program), lambda _: None, time.perf_counter, [])


class Eager:
    """The loop that anybody would write by hand."""

    def __init__(self, workload: LM) -> None:
        torch.manual_seed(0)
        self._workload = workload
        self._model = nn.Sequential(*(spec.build() for spec in workload.layers()))
        self._adamw = torch.optim.AdamW(
            self._model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self._step = 0

    def step(self) -> None:
        """One training step."""
        batches = [self._workload.batch(BatchId(self._step, i)) for i in range(MICRO_BATCHES)]
        count = sum(batch.count for batch in batches)
        total = 0.0
        for batch in batches:
            loss = self._workload.loss(self._model(batch.inputs), batch) / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
        self._adamw.step()
        self._adamw.zero_grad()
        self._step += 1


class Pipelined:
    """``torch.distributed.pipelining``: two stages, two replicas, 1F1B, a flat all-reduce."""

    def __init__(self, workload: LM, rank: int) -> None:
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        self._workload, self._stage, self._replica = workload, rank % 2, rank // 2
        pipelines = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        replicas = [dist.new_group([0, 2]), dist.new_group([1, 3])]
        self._pipeline, self._peers = pipelines[self._replica], replicas[self._stage]
        torch.manual_seed(0)
        layers = [spec.build() for spec in workload.layers()]
        middle = len(layers) // 2
        self._module = nn.Sequential(*(layers[middle:] if self._stage else layers[:middle]))
        stage: Any = PipelineStage(
            self._module, self._stage, 2, torch.device("cpu"), group=self._pipeline
        )
        self._schedule = Schedule1F1B(
            stage, MICRO_BATCHES // 2, loss_fn=self._loss, scale_grads=False
        )
        self._adamw = torch.optim.AdamW(
            self._module.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self._count = 0
        self._step = 0

    def _loss(self, output: Tensor, targets: Tensor) -> Tensor:
        logits = output.float().reshape(-1, output.shape[-1])
        total = nn.functional.cross_entropy(logits, targets.reshape(-1), reduction="sum")
        return total / self._count

    def step(self) -> None:
        """One training step."""
        half = MICRO_BATCHES // 2
        ids = range(self._replica * half, (self._replica + 1) * half)
        batches: list[Batch] = [self._workload.batch(BatchId(self._step, i)) for i in ids]
        self._count = 2 * sum(batch.count for batch in batches)
        if self._stage == 0:
            self._schedule.step(torch.cat([torch.as_tensor(b.inputs) for b in batches]))
        else:
            losses: list[Tensor] = []
            targets = torch.cat([batch.targets for batch in batches])
            self._schedule.step(target=targets, losses=losses)
            sum(loss.item() for loss in losses)
        self._reduce()
        self._adamw.step()
        self._adamw.zero_grad()
        self._step += 1

    def _reduce(self) -> None:
        gradients = [p.grad for p in self._module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=self._peers)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        square = torch.stack(torch._foreach_norm(gradients)).square().sum()
        dist.all_reduce(square, group=self._pipeline)
        scale = min(1.0, CLIP / float(square.sqrt() + 1e-6))
        if scale < 1.0:
            torch._foreach_mul_(gradients, scale)


def two_by_two(num_layers: int) -> Plan:
    """Two pipelines of two equal stages."""
    middle = num_layers // 2
    half = MICRO_BATCHES // 2
    pipelines = [
        Pipeline(
            (Stage(Span(0, middle), 2 * p), Stage(Span(middle, num_layers), 2 * p + 1)),
            tuple(range(p * half, (p + 1) * half)),
        )
        for p in (0, 1)
    ]
    return Plan(tuple(pipelines))


def take_turns(
    arms: dict[str, Callable[[], None]], rounds: int, burst: int, meet: Callable[[], None]
) -> dict[str, list[float]]:
    """Seconds per step of every arm in each round; the first round is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        names = list(arms) if number % 2 else list(reversed(arms))
        for name in names:
            meet()
            began = time.perf_counter()
            for _ in range(burst):
                arms[name]()
            meet()
            if number:
                seconds[name].append((time.perf_counter() - began) / burst)
    return seconds


def measure_alone(shape: Shape, rounds: int, burst: int) -> dict[str, list[float]]:
    """1x1, in this process."""
    torch.set_num_threads(1)
    workload = shape.workload()
    count = len(workload.layers())
    plan = Plan((Pipeline((Stage(Span(0, count), 0),), tuple(range(MICRO_BATCHES))),))
    channel = GlooChannel(dist.HashStore(), 0, 0, (0,), 60.0, "127.0.0.1")
    arms = {
        "1x1 eager": Eager(workload).step,
        "1x1 ours": Ours(workload, plan, True, channel).step,
    }
    return take_turns(arms, rounds, burst, lambda: None)


def _rank(
    rank: int,
    port: int,
    shape: Shape,
    rounds: int,
    burst: int,
    results: Any,  # noqa: ANN401 - a queue of multiprocessing
) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    world = dist.PrefixStore("world", store)
    dist.init_process_group("gloo", store=world, rank=rank, world_size=4)
    workload = shape.workload()
    plan = two_by_two(len(workload.layers()))
    arms: dict[str, Callable[[], None]] = {"2x2 pipelining": Pipelined(workload, rank).step}
    for generation, exact in enumerate((True, False)):
        channel = GlooChannel(store, generation, rank, plan.workers, 60.0, "127.0.0.1")
        name = "2x2 ours exact" if exact else "2x2 ours fast"
        arms[name] = Ours(workload, plan, exact, channel).step
    seconds = take_turns(arms, rounds, burst, dist.barrier)
    if rank == 0:
        results.put(seconds)
    dist.barrier()
    dist.destroy_process_group()


def measure_together(shape: Shape, rounds: int, burst: int) -> dict[str, list[float]]:
    """2x2, in four processes."""
    context = mp.get_context("spawn")
    results = context.Queue()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [
        context.Process(target=_rank, args=(rank, store.port, shape, rounds, burst, results))
        for rank in range(4)
    ]
    for process in processes:
        process.start()
    seconds: dict[str, list[float]] = results.get(timeout=900)
    for process in processes:
        process.join(60)
    return seconds


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over rounds of their time by ours."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def main() -> None:
    """Measure, print, and write the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--burst", type=int, default=2, help="steps of an arm in each round")
    parser.add_argument("--dim", type=int, default=Shape.dim)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    shape = Shape(dim=arguments.dim)
    seconds = measure_alone(shape, arguments.rounds, arguments.burst)
    seconds |= measure_together(shape, arguments.rounds, arguments.burst)
    for name, values in seconds.items():
        print(f"{name:16} {statistics.median(values) * 1e3:8.1f} ms a step")
    print(f"1x1 ours / eager            {ratio(seconds['1x1 eager'], seconds['1x1 ours']):.3f}")
    theirs = seconds["2x2 pipelining"]
    for kind in ("exact", "fast"):
        print(f"2x2 ours {kind:5} / pipelining {ratio(theirs, seconds[f'2x2 ours {kind}']):.3f}")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["arm", "round", "seconds"])
            for name, values in seconds.items():
                writer.writerows([name, i, f"{value:.6f}"] for i, value in enumerate(values))


if __name__ == "__main__":
    main()
