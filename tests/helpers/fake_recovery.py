"""A made-up log in which a worker is killed by a drill and the run recovers.

``python tests/helpers/fake_recovery.py FOLDER`` writes ``FOLDER/events.jsonl``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ithaca.runtime.events import (
    Decided,
    Event,
    FailureNoticed,
    FaultInjected,
    Recovered,
    StepDone,
    WorkerLeft,
)
from tests.helpers.fake_run import PLAN, FakeRun

AFTER = PLAN.replace("generation=0", "generation=1") + "route m4 0:4@w0\nroute m5 0:4@w0\n"
PHASES = {
    "detect": 0.012, "wake": 0.031, "decide": 0.009, "move": 0.0, "rebuild": 0.016,
    "redo": 0.066, "first_step": 0.128,
}  # fmt: skip


def crash(time_s: float, step: int, worker: int = 2, generation: int = 0) -> Iterator[Event]:
    """The death of a worker in ``step``, and the answer."""
    action = "B 0:4 m5"
    yield FaultInjected(
        time_s=time_s, fault=f"crash w{worker} at step {step} before B m5", worker=worker,
        step=step, action=action,
    )  # fmt: skip
    yield FailureNoticed(
        time_s=time_s + 0.012, generation=generation, failure="crash", worker=worker,
        node="10.0.0.2", rank=2, step=step, action=action,
        evidence="its stream of orders broke: socket closed",
        traceback="worker 0, thread engine: waiting in REDUCE\nworker 1, thread engine: in COMMIT",
    )  # fmt: skip
    yield WorkerLeft(time_s=time_s + 0.013, worker=worker, node="10.0.0.2", reason="crash")
    yield Decided(
        time_s=time_s + 0.052, generation=generation + 1, strategy="reroute", plan=AFTER,
        reason="34.1 samples/s over the 41 min expected until the next failure",
        candidates=[
            {"strategy": "reroute", "step_s": 0.31, "transition_s": 0.06, "peak_bytes": 301e6,
             "score": 34.1, "feasible": True, "reason": "w0 takes micro-batches 4 to 7"},
            {"strategy": "reshape", "step_s": 0.29, "transition_s": 1.9, "peak_bytes": 240e6,
             "score": 33.2, "feasible": True, "reason": "one pipeline of 3 stages"},
            {"strategy": "rollback", "step_s": 0.29, "transition_s": 12.0, "peak_bytes": 240e6,
             "score": None, "feasible": False, "reason": "no layer is lost"},
        ],
        predicted_step_s=0.31, predicted_transition_s=0.06,
    )  # fmt: skip
    yield Recovered(
        time_s=time_s + 0.262, generation=generation + 1, strategy="reroute", phases=PHASES,
        redone=[{"first": 0, "last": 4, "micro_batch": m, "op": op} for m in (4, 5) for op in "FB"],
        redone_micro_batches=2, lost_samples=0, pause_s=0.084, predicted_step_s=0.31,
        predicted_transition_s=0.06,
    )  # fmt: skip


def crashed(run: FakeRun, *steps: int) -> list[Event]:
    """``run`` with a worker killed in each of ``steps``."""
    out: list[Event] = []
    for event in run.events():
        if isinstance(event, StepDone) and event.step in steps:
            number = steps.index(event.step)
            out += crash(event.time_s - 0.3, event.step, generation=number)
        out.append(event)
    return out


def main() -> None:
    """Write the log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = [event.to_json() + "\n" for event in crashed(FakeRun(), 60, 130)]
    (folder / "events.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
