"""The estimator against real runs: ``python -m benchmarks.estimator [--csv FILE] [LAYOUT ...]``.

Every layout is a real run - cluster, controller, processes, gloo, recovery - on layers whose
compute is emulated by waits, so that workers do not share cores. The run measures its layers as
every run does; then workers are killed. The step time that the run itself predicted, before and
after each loss, is compared with the median time from one committed step to the next. Nothing is
fitted.

Rows that are in the file are not measured again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recovery_study.sheet import Row, Sheet
from ithaca.planner.plan import Plan
from ithaca.runtime.events import Decided, Event, PlanChosen, RunEnded, StepDone

FORWARD_S, BACKWARD_S = 0.020, 0.040
MICRO_BATCHES = 8
TIMED_STEP = 11
"""The step behind which a run knows its layers' times."""
WINDOW = 8
"""Steps that are measured before, between and after losses."""
EVEN = (1.0,) * 8
SLOPED = (0.4, 1.0, 1.0, 1.0, 1.0, 1.2, 1.2, 1.6)
COLUMNS = (
    "layout", "weight_part", "phase", "strategy", "workers", "plan", "predicted_s", "measured_s",
    "error", "steps", "load",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Pipelines with their layers per stage, and who is lost, in turn.

    Attributes:
        splits: layers of each stage, one tuple per pipeline.
        lost: workers.
        weights: of the layers.
        strategy: by which the run may answer.
        schedule: of the first plan.
    """

    splits: tuple[tuple[int, ...], ...]
    lost: tuple[int, ...]
    weights: tuple[float, ...] = EVEN
    strategy: str = "auto"
    schedule: str = "1f1b"

    def job(self, weight_part: float) -> dict[str, Any]:
        """The run, as in a YAML file; ``weight_part`` of a backward is for the weights."""
        faults = [
            f"crash w{worker} at step {TIMED_STEP + 1 + (number + 1) * (WINDOW + 2)} before B"
            for number, worker in enumerate(self.lost)
        ]
        return {
            "name": "estimator",
            "steps": TIMED_STEP + 1 + (len(self.lost) + 1) * (WINDOW + 2),
            "drills": True,
            "faults": faults,
            "workload": {
                "use": "benchmarks.emulated:EmulatedWorkload",
                "weights": list(self.weights),
                "forward_s": FORWARD_S,
                "backward_s": BACKWARD_S,
                "weight_part": weight_part,
            },
            "layout": {
                "pipelines": len(self.splits),
                "stages": [len(split) for split in self.splits],
                "split": [list(split) for split in self.splits],
                "micro_batches": MICRO_BATCHES,
                "schedule": self.schedule,
            },
            "recovery": {"strategy": self.strategy, "replace": False},
            "checkpoint": {"every": 0},
            "validation": {"every": 0},
        }


LAYOUTS: Mapping[str, Layout] = {
    "2x1": Layout(((8,),) * 2, (1,)),
    "2x2": Layout(((4, 4),) * 2, (1,)),
    "2x2 reroute": Layout(((4, 4),) * 2, (1,), strategy="reroute"),
    "2x2 sloped": Layout(((5, 3),) * 2, (3,), SLOPED),
    "3x2": Layout(((4, 4),) * 3, (0, 3)),
    "3x2 reroute split": Layout(((4, 4),) * 3, (2,), strategy="reroute", schedule="1f1b-split"),
    "2x3 sloped": Layout(((4, 2, 2),) * 2, (4,), SLOPED),
    "4x1": Layout(((8,),) * 4, (3, 0)),
    "3+2 uneven": Layout(((3, 3, 2), (5, 3)), (1,)),
    "2x4": Layout(((2, 2, 2, 2),) * 2, (2,)),
    "2x4 gpipe": Layout(((2, 2, 2, 2),) * 2, (5,), schedule="gpipe"),
    "4x2": Layout(((4, 4),) * 4, (1, 4)),
    "4x2 reroute": Layout(((4, 4),) * 4, (1, 4), strategy="reroute"),
}


@dataclass(frozen=True)
class Comparison:
    """One plan of a run: what was predicted for it, and what its steps took.

    Attributes:
        generation: of the plan.
        strategy: by which the run came to it; empty for the first.
        plan: it.
        predicted_s: seconds of a step, as the run said before its steps were measured.
        periods: seconds from one commit to the next.
    """

    generation: int
    strategy: str
    plan: Plan
    predicted_s: float
    periods: tuple[float, ...]

    @property
    def measured_s(self) -> float:
        """The median step."""
        return statistics.median(self.periods)

    @property
    def error(self) -> float:
        """Relative; negative when the step took longer than predicted."""
        return self.predicted_s / self.measured_s - 1


def compare(events: Iterable[Event], fewest: int = 4) -> list[Comparison]:
    """Every plan of a run that was in force for at least ``fewest`` steps with a prediction.

    The first plan counts from the moment at which its layers were measured. The faulted step
    itself, and the step that the measured times came in, belong to no plan.
    """
    found: list[Comparison] = []
    strategy, known, timed = "", None, False
    before: StepDone | None = None
    periods: list[float] = []

    def close() -> Iterator[Comparison]:
        if known is not None and timed and len(periods) >= fewest:
            assert known.predicted_step_s is not None, "it was simulated"
            plan = Plan.parse(known.plan)
            yield Comparison(
                known.generation, strategy, plan, known.predicted_step_s, tuple(periods)
            )

    for event in events:
        match event:
            case PlanChosen():
                found += close()
                timed = timed or (known is not None and event.generation == known.generation)
                known, before, periods = event, None, []
            case Decided():
                found += close()
                strategy, periods, before = event.strategy, [], None
            case StepDone():
                if before is not None and event.generation == before.generation:
                    periods.append(event.time_s - before.time_s)
                before = event
    return [*found, *close()]


def rows(
    layout: str, weight_part: float, compared: Sequence[Comparison], load: float
) -> Iterator[dict[str, str]]:
    """What is written down of one run."""
    for number, each in enumerate(compared):
        yield {
            "layout": layout,
            "weight_part": f"{weight_part:g}",
            "phase": "before" if each.generation == 0 else f"after {number}",
            "strategy": each.strategy,
            "workers": str(len(each.plan.workers)),
            "plan": " / ".join(str(each.plan).splitlines()),
            "predicted_s": f"{each.predicted_s:.6f}",
            "measured_s": f"{each.measured_s:.6f}",
            "error": f"{each.error:.4f}",
            "steps": str(len(each.periods)),
            "load": f"{load:.1f}",
        }


def measure(names: Sequence[str], weight_part: float, sheet: Sheet) -> None:
    """Run each of the layouts that is not in ``sheet`` yet."""
    from benchmarks.warm import warm

    known = {row["layout"] for row in sheet.rows if row["weight_part"] == f"{weight_part:g}"}
    todo = {name: LAYOUTS[name] for name in names if name not in known}
    if not todo:
        return
    most = max(sum(map(len, layout.splits)) for layout in todo.values())
    with warm(most) as workers, tempfile.TemporaryDirectory() as base:
        for number, (name, layout) in enumerate(todo.items()):
            load = os.getloadavg()[0]
            events = workers.run(layout.job(weight_part), Path(base) / str(number))
            end = events[-1]
            if not isinstance(end, RunEnded) or end.outcome != "finished":
                raise RuntimeError(f"the run of {name} did not finish: {end}")
            for row in rows(name, weight_part, compare(events), load):
                sheet.add(row)
                print(
                    f"{name:18} {row['phase']:8} {row['strategy']:8} {row['workers']} workers  "
                    f"predicted {float(row['predicted_s']):.3f} s, measured "
                    f"{float(row['measured_s']):.3f} s, {float(row['error']):+.1%}",
                    flush=True,
                )


def summary(mine: Sequence[Row]) -> Iterator[str]:
    """Mean and largest error of all plans, and of those before and after a loss."""
    for name, chosen in (
        ("all", mine),
        ("before", [row for row in mine if row["phase"] == "before"]),
        ("after", [row for row in mine if row["phase"] != "before"]),
    ):
        errors = [abs(float(row["error"])) for row in chosen]
        if errors:
            mean, most = statistics.mean(errors), max(errors)
            yield f"{name}: {len(errors)} plans, mean error {mean:.1%}, largest {most:.1%}"


def main() -> None:
    """Measure what is missing, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layouts", nargs="*", default=list(LAYOUTS), metavar="LAYOUT")
    parser.add_argument("--csv", type=Path, default=Path("docs/results/estimator_cpu.csv"))
    parser.add_argument(
        "--weight-part", type=float, default=0.5, help="of a backward, for the weights (0.5)"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.layouts) - set(LAYOUTS))
    if unknown:
        parser.error(f"no layouts {', '.join(unknown)}; there are {', '.join(LAYOUTS)}")
    sheet = Sheet(arguments.csv, COLUMNS, ("layout", "weight_part", "phase"))
    measure(arguments.layouts, arguments.weight_part, sheet)
    part = f"{arguments.weight_part:g}"
    for line in summary([row for row in sheet.rows if row["weight_part"] == part]):
        print(line)


if __name__ == "__main__":
    main()
