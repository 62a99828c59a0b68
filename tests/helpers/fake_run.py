"""A realistic event log without any training: real Programs, made-up times and losses.

``python tests/helpers/fake_run.py FOLDER [--fail] [--resume]`` writes ``FOLDER/events.jsonl``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from ithaca.planner.plan import Plan
from ithaca.planner.program import Cargo, Compute, Op, Program, Transfer
from ithaca.planner.schedule import programs
from ithaca.runtime.events import (
    CheckpointWritten,
    Event,
    PlanChosen,
    RunEnded,
    RunStarted,
    Showcase,
    StepDone,
    Timeline,
    Validated,
    Warned,
    WorkerFailed,
    WorkerJoined,
)

PLAN = """plan generation=0 schedule=1f1b
pipeline 0-3 0:4@w0 4:8@w1
pipeline 4-7 0:4@w2 4:8@w3
"""
START_S = 1_700_000_000.0
TRACEBACK = """Traceback (most recent call last):
  File "workload.py", line 88, in forward
    return self.down(self.gate(x) * self.up(x))
RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes
"""
Rows = list[tuple[str, float, float]]
SECONDS = {
    Op.F: 0.011, Op.B: 0.022, Op.I: 0.012, Op.W: 0.010, Op.SEND: 0.0002, Op.RECV: 0.00005,
    Op.REDUCE: 0.006, Op.TIE: 0.002, Op.COMMIT: 0.001, Op.STEP: 0.004,
}  # fmt: skip


@dataclass(frozen=True)
class FakeRun:
    """What happens in the run; every value follows from these."""

    name: str = "quickstart"
    steps: int = 200
    stop: int | None = None
    """Committed steps after which the log ends or the failure comes; None: all of them."""
    outcome: str | None = "finished"
    """None: the log ends in the middle, as after a crash."""
    plan: str = PLAN
    seed: int = 0
    first: int = 0
    """Committed steps that this run goes on from; above 0 it is a resume."""
    began_s: float = START_S
    showcase: str = "The import statement binds the name of a module to the module that it\n"

    def events(self) -> Iterator[Event]:
        """The run's events, in order."""
        clock = Clock(self.began_s)
        yield from self._head(clock)
        plan = Plan.parse(self.plan)
        made = programs(plan)
        last = self.steps if self.stop is None else self.stop
        random = Random(f"{self.seed} {self.first}")
        if self.first == 0:
            yield Validated(time_s=clock.after(0.8), step=0, loss=5.53, count=65536, seconds=0.8)
        for step in range(self.first + 1, last + 1):
            yield from self._step(step, plan.generation, made, random, clock)
        yield from self._tail(last, clock)

    def _head(self, clock: Clock) -> Iterator[Event]:
        yield RunStarted(
            time_s=clock.now,
            name=self.name,
            steps=self.steps,
            metric="bits per byte",
            metric_scale=1 / math.log(2),
            job={
                "name": self.name,
                "steps": self.steps,
                "seed": self.seed,
                "numerics": "exact",
                "precision": "fp32",
                "workload": {"use": "lm", "width": 256, "depth": 6},
                "layout": {"pipelines": 2, "stages": 2, "schedule": "1f1b"},
                "optimizer": {"lr": 0.003, "warmup": 20, "schedule": "cosine"},
            },
            identity={"torch": "2.13.0+cpu", "device": "cpu (AMD EPYC 7B13)", "threads": "1",
                      "data": "3f5a1c0e9b7d2284"},
            resumed_from=self.first or None,
        )  # fmt: skip
        plan = Plan.parse(self.plan)
        for worker in plan.workers:
            yield WorkerJoined(
                time_s=clock.after(0.4), worker=worker, node=f"10.0.0.{worker // 2 + 1}",
                pid=4000 + worker, device="cpu", torch="2.13.0+cpu",
            )  # fmt: skip
        rows = timelines(programs(plan), Random(0), spread=0.0)
        yield PlanChosen(
            time_s=clock.after(0.1),
            generation=plan.generation,
            plan=self.plan,
            programs={str(worker): str(program) for worker, program in programs(plan).items()},
            predicted_step_s=max(end for part in rows.values() for _, _, end in part),
            predicted={str(worker): part for worker, part in rows.items()},
            predicted_peak_bytes={str(worker): 212_000_000 for worker in plan.workers},
            reason="the job asks for 2 pipelines of 2 stages",
        )

    def _step(
        self, step: int, generation: int, made: dict[int, Program], random: Random, clock: Clock
    ) -> Iterator[Event]:
        rows: dict[int, Rows] = {}
        seconds = 0.221 + abs(random.gauss(0, 0.004))
        if step % 20 == 1:
            rows = timelines(made, random, spread=0.3 if step == 1 else 0.08, scale=1.04)
            seconds = max(end for part in rows.values() for _, _, end in part)
        began = clock.now
        fall = 1.15 + 2.7 * math.exp(-step / 28) + 0.25 * math.exp(-step / 180)
        lr = 0.003 * min(step / 20, 0.55 + 0.45 * math.cos(math.pi * step / self.steps))
        yield StepDone(
            time_s=clock.after(seconds),
            step=step,
            generation=generation,
            loss=fall + random.gauss(0, 0.03),
            auxiliary=0.0,
            norm=0.6 + 3 * math.exp(-step / 15) + abs(random.gauss(0, 0.12)),
            lr=lr,
            count=16384,
            samples=64,
            seconds=seconds,
        )
        for worker, part in rows.items():
            yield Timeline(time_s=clock.now, step=step, worker=worker,
                           began_s=began + worker * 0.0004, rows=part,
                           peak_bytes=198_000_000 + worker * 7_000_000)  # fmt: skip
        if step % 50 == 0 or step == self.steps:
            yield Validated(time_s=clock.after(0.6), step=step, loss=fall + 0.06, count=65536,
                            seconds=0.6)  # fmt: skip
            yield CheckpointWritten(time_s=clock.after(0.2), step=step, bytes=18_400_000,
                                    path=f"runs/{self.name}/checkpoints/step-{step}",
                                    seconds=0.2, state_hash=_hash(step))  # fmt: skip
        if step == 120:
            yield Warned(time_s=clock.now, message="worker 1 was 3.1 times slower than usual")

    def _tail(self, last: int, clock: Clock) -> Iterator[Event]:
        if self.outcome == "failed":
            yield WorkerFailed(time_s=clock.after(0.1), worker=1, node="10.0.0.1", rank=1,
                               step=last + 1, action="F 4:8 m2", cause=TRACEBACK.splitlines()[-1],
                               traceback=TRACEBACK)  # fmt: skip
        if self.outcome == "finished":
            yield Showcase(time_s=clock.after(0.1), text=self.showcase)
        if self.outcome is not None:
            failed = self.outcome == "failed"
            yield RunEnded(time_s=clock.after(0.1), outcome=self.outcome, step=last,
                           reason="worker 1 failed" if failed else "all steps are done",
                           state_hash=None if failed else _hash(last))  # fmt: skip


class Clock:
    """Made-up time, in seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def after(self, seconds: float) -> float:
        """The time ``seconds`` later, which is now."""
        self.now += seconds
        return self.now


def timelines(
    programs: dict[int, Program], random: Random, *, spread: float, scale: float = 1.0
) -> dict[int, Rows]:
    """When each worker would do what; waiting for an input is a row of its own, as in reality."""
    rows: dict[int, Rows] = {worker: [] for worker in programs}
    now = dict.fromkeys(programs, 0.0)
    place = dict.fromkeys(programs, 0)
    sent: dict[tuple[int, Cargo, int, int], float] = {}
    while any(place[w] < len(p.actions) for w, p in programs.items()):
        ready = {w: p.actions[place[w]] for w, p in programs.items() if place[w] < len(p.actions)}
        moved = False
        for worker, action in ready.items():
            began = now[worker]
            op = Op(str(action).split()[0])
            if isinstance(action, Compute):
                needs = _needs(action, programs[worker].num_layers)
                if needs is not None:
                    if (worker, *needs) not in sent:
                        continue
                    began = max(began, sent[worker, *needs])
                if began > now[worker]:
                    rows[worker].append((f"WAIT {action}", now[worker], began))
                end = began + SECONDS[op] * scale * (1 + spread * abs(random.gauss(0, 1)))
            elif isinstance(action, Transfer):
                end = began + SECONDS[op]
                if op is Op.SEND:
                    sent[action.peer, *action.key] = end + 0.001
            elif len({str(other).split()[0] for other in ready.values()}) > 1:
                continue
            else:
                end = (began if op is Op.STEP else max(now.values())) + SECONDS[op] * scale
            now[worker] = end
            rows[worker].append((str(action), began, end))
            place[worker] += 1
            moved = True
        assert moved, "the programs do not fit together"
    return rows


def _needs(action: Compute, num_layers: int) -> tuple[Cargo, int, int] | None:
    if action.op is Op.F and action.layers.first > 0:
        return Cargo.ACTIVATION, action.layers.first, action.micro_batch
    if action.op in (Op.B, Op.I) and action.layers.last < num_layers:
        return Cargo.GRADIENT, action.layers.last, action.micro_batch
    return None


def _hash(step: int) -> str:
    return f"{Random(step).getrandbits(128):032x}"


def resumed(run: FakeRun, crashed_after: int, checkpoint: int) -> list[Event]:
    """A run that stopped without a word ``crashed_after`` steps and then went on to its end."""
    first = replace(run, stop=crashed_after, outcome=None)
    second = replace(run, first=checkpoint, began_s=run.began_s + 3600, seed=run.seed + 1)
    return [*first.events(), *second.events()]


def main() -> None:
    """Write the log that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    run = FakeRun(stop=73, outcome="failed") if args.fail else FakeRun()
    events = resumed(run, 77, 50) if args.resume else list(run.events())
    args.folder.mkdir(parents=True, exist_ok=True)
    text = "".join(event.to_json() + "\n" for event in events)
    (args.folder / "events.jsonl").write_text(text)


if __name__ == "__main__":
    main()
