"""How long a recovery takes: ``python -m benchmarks.recovery_latency [--drills N] [ARM ...]``.

Every drill is a real run of four workers, two pipelines of two stages on gloo, carried out as
``ithaca run`` does with its controller in a process of its own, on workers that are warm. In its
third step one worker is killed (``crash``), stopped with SIGSTOP (``stop``), or keeps the
interpreter's lock (``gil``); which worker, and at which point of its program, goes round. Arms are
``short``, where steps take some 50 ms so that detection, decision and meeting anew show, and
``long``, steps of a little more than a second by emulated compute.

Times are on one clock, of one machine. Notice is the moment at which the controller begins its
answer; the first REDUCE of the new generation is over when its sums are there.
Drills that are in the file are not done again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recovery_study.sheet import Sheet
from ithaca.runtime.events import (
    Event,
    FaultInjected,
    PlanChosen,
    Recovered,
    RunEnded,
    StateHashed,
    StepDone,
    Timeline,
)

WORKERS, STEPS, FAULT_STEP = 4, 6, 3
CALIBRATION_STEPS = 14
POINTS = (
    "before B", "before REDUCE", "after F", "before SEND", "after B nth 2", "before F nth 2",
    "after SEND nth 2", "before RECV nth 2",
)  # fmt: skip
WAITS = {"short": (0.001, 0.002), "long": (0.035, 0.070)}
KINDS = ("crash", "stop", "gil")
ARMS = tuple(f"{kind} {size}" for size in WAITS for kind in KINDS)
COLUMNS = (
    "arm", "drill", "fault", "strategy", "detect_s", "wake_s", "decide_s", "move_s", "rebuild_s",
    "notice_to_action_s", "notice_to_reduce_s", "fault_to_reduce_s", "predicted_s", "faulted_s",
    "redo_s", "pause_s", "told_pause_s", "later_pause_s", "redone", "identical", "load",
)  # fmt: skip


def job(size: str, steps: int, detect: str, fault: str | None) -> dict[str, Any]:
    """A run of two pipelines of two stages, as in a YAML file."""
    forward_s, backward_s = WAITS[size]
    return {
        "name": "latency",
        "steps": steps,
        "detect": detect,
        "drills": True,
        "faults": [fault] if fault else [],
        "workload": {
            "use": "benchmarks.emulated:EmulatedWorkload",
            "weights": [1.0] * 4,
            "forward_s": forward_s,
            "backward_s": backward_s,
        },
        "layout": {"pipelines": 2, "stages": 2, "micro_batches": 8},
        "recovery": {"replace": False},
        "checkpoint": {"every": 0},
        "validation": {"every": 0},
        "report": {"timeline_every": 1, "hash_every": 1},
    }


def fault_of(kind: str, drill: int) -> str:
    """The fault of a drill: workers and points go round."""
    point = POINTS[drill // WORKERS % len(POINTS)]
    return f"{kind} w{drill % WORKERS} at step {FAULT_STEP} {point}"


@dataclass(frozen=True, slots=True)
class Latency:
    """What one recovery took, in seconds.

    Attributes:
        strategy: by which.
        phases: as the run accounts for them.
        detect_s: from the fault to the notice.
        action_s: from the notice to the first action of the new generation.
        reduce_s: from the notice to the end of the first REDUCE of the new generation.
        predicted_s: the undisturbed step, as the run predicted it before.
        faulted_s: from the commit before the fault to the next one.
        redo_s: work that was done again, by the profile.
        told_pause_s: as the run reports it, against the step under the new plan.
        later_s: pause at the entry of a plan that was put off to the next step; 0 without one.
        redone: micro-batches of which something was done again.
    """

    strategy: str
    phases: dict[str, float]
    detect_s: float
    action_s: float
    reduce_s: float
    predicted_s: float
    faulted_s: float
    redo_s: float
    told_pause_s: float
    later_s: float
    redone: int

    @property
    def pause_s(self) -> float:
        """The faulted step minus the predicted undisturbed one, redone work apart."""
        return self.faulted_s - self.predicted_s - self.redo_s


class UnlikeError(RuntimeError):
    """The run was not one fault and its recovery."""


def latency(events: Sequence[Event]) -> Latency:
    """What the recovery in a run's log took.

    Raises:
        UnlikeError: there was no fault, or no recovery from it.
    """
    struck = [event for event in events if isinstance(event, FaultInjected)]
    recovered = [event for event in events if isinstance(event, Recovered)]
    if len(struck) != 1 or not recovered:
        raise UnlikeError(f"{len(struck)} faults and {len(recovered)} recoveries, not one of each")
    first, fault_s = recovered[0], struck[0].time_s
    noticed_s = first.time_s - sum(s for name, s in first.phases.items() if name != "detect")
    began, reduced = zip(*_beginnings(events, noticed_s), strict=True)
    commits = {event.step: event.time_s for event in events if isinstance(event, StepDone)}
    faulted = min(step for step, time_s in commits.items() if time_s > fault_s)
    plan = next(event for event in events if isinstance(event, PlanChosen))
    assert plan.predicted_step_s is not None, "it was simulated"
    return Latency(
        strategy=first.strategy,
        phases=dict(first.phases),
        detect_s=noticed_s - fault_s,
        action_s=min(began) - noticed_s,
        reduce_s=min(reduced) - noticed_s,
        predicted_s=plan.predicted_step_s,
        faulted_s=commits[faulted] - commits[faulted - 1],
        redo_s=first.phases.get("redo", 0.0),
        told_pause_s=first.pause_s,
        later_s=sum(event.pause_s for event in recovered[1:]),
        redone=first.redone_micro_batches,
    )


def _beginnings(events: Iterable[Event], noticed_s: float) -> Iterator[tuple[float, float]]:
    """Per timeline behind the notice, when its first action began and its first REDUCE ended."""
    found = False
    for event in events:
        if isinstance(event, Timeline) and event.began_s >= noticed_s and event.rows:
            reduced = [end for what, _, end in event.rows if what.startswith("REDUCE")]
            if reduced:
                found = True
                yield event.began_s + event.rows[0][1], event.began_s + reduced[0]
    if not found:
        raise UnlikeError("no worker reduced anything behind the notice")


def states(events: Iterable[Event]) -> dict[int, str]:
    """Hash of the state by committed steps."""
    return {event.step: event.state_hash for event in events if isinstance(event, StateHashed)}


def row(arm: str, drill: int, fault: str, found: Latency, identical: bool) -> dict[str, str]:
    """What is written down of a drill."""
    seconds = {
        "detect_s": found.detect_s,
        **{f"{name}_s": found.phases[name] for name in ("wake", "decide", "move", "rebuild")},
        "notice_to_action_s": found.action_s,
        "notice_to_reduce_s": found.reduce_s,
        "fault_to_reduce_s": found.detect_s + found.reduce_s,
        "predicted_s": found.predicted_s,
        "faulted_s": found.faulted_s,
        "redo_s": found.redo_s,
        "pause_s": found.pause_s,
        "told_pause_s": found.told_pause_s,
        "later_pause_s": found.later_s,
    }
    return {
        "arm": arm,
        "drill": str(drill),
        "fault": fault,
        "strategy": found.strategy,
        **{name: f"{value:.4f}" for name, value in seconds.items()},
        "redone": str(found.redone),
        "identical": "yes" if identical else "no",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


def summary(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    """Median and 99th percentile of what matters, by arm."""
    listed = list(rows)
    for arm in ARMS:
        mine = [row for row in listed if row["arm"] == arm]
        if not mine:
            continue
        same = sum(row["identical"] == "yes" for row in mine)
        yield f"{arm}: {len(mine)} drills, {same} with the bits of the undisturbed run"
        for name in ("detect_s", "notice_to_action_s", "notice_to_reduce_s", "fault_to_reduce_s",
                     "predicted_s", "redo_s", "pause_s", "told_pause_s"):  # fmt: skip
            yield _spread(name, [float(row[name]) for row in mine])
        longer = [float(row["faulted_s"]) - float(row["predicted_s"]) for row in mine]
        yield _spread("with what was redone", longer)


def _spread(name: str, values: Sequence[float]) -> str:
    return (
        f"  {name:20} median {statistics.median(values):7.3f}  "
        f"p99 {quantile(values, 0.99):7.3f}  largest {max(values):7.3f}"
    )


def measure(
    arms: Sequence[str], drills: int, detect: str, sheet: Sheet, say: Callable[[str], None]
) -> None:
    """Do the drills that are not in ``sheet`` yet."""
    from benchmarks.warm import warm

    todo = [(arm, n) for arm in arms for n in range(drills) if (arm, str(n)) not in sheet]
    if not todo:
        return
    with warm(WORKERS) as workers, tempfile.TemporaryDirectory() as place:
        base = Path(place)
        undisturbed: dict[str, dict[int, str]] = {}
        for arm, drill in todo:
            kind, size = arm.split()
            if size not in undisturbed:
                workers.run(job(size, CALIBRATION_STEPS, detect, None), base / size)
                calm = workers.run(job(size, STEPS, detect, None), base / f"{size}-calm")
                undisturbed[size] = states(calm)
            fault = fault_of(kind, drill)
            folder = base / "drill"
            events = workers.run(job(size, STEPS, detect, fault), folder, profile=base / size)
            end = events[-1]
            if not isinstance(end, RunEnded) or end.outcome != "finished":
                raise RuntimeError(f"the run with '{fault}' did not finish: {end}")
            found = latency(events)
            sheet.add(row(arm, drill, fault, found, states(events) == undisturbed[size]))
            shutil.rmtree(folder)
            say(
                f"{arm} {drill}: {fault}: {found.strategy}, detect {found.detect_s:.3f} s, notice "
                f"to first REDUCE {found.reduce_s:.3f} s, pause {found.pause_s:.3f} s"
            )


def main() -> None:
    """Do what is missing, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", default=list(ARMS), metavar="ARM")
    parser.add_argument("--drills", type=int, default=50, help="of each arm")
    parser.add_argument("--detect", default="2s", help="the user's one timeout")
    parser.add_argument("--csv", type=Path, default=Path("docs/results/recovery_latency.csv"))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.arms) - set(ARMS)):
        parser.error(f"no arms {', '.join(unknown)}; there are {', '.join(ARMS)}")
    sheet = Sheet(arguments.csv, COLUMNS, ("arm", "drill"))
    measure(
        arguments.arms,
        arguments.drills,
        arguments.detect,
        sheet,
        lambda text: print(text, flush=True),
    )
    for line in summary(dict(row) for row in sheet.rows):
        print(line)


if __name__ == "__main__":
    main()
