"""``python benchmarks/peers/ray_tune_drill.py FOLDER``: Ray Tune's ASHA with workers killed.

The same drill as ``benchmarks/tuner/faults.py``: a process that trains is killed every so many
seconds, the driver once, and the search is restored from its folder. Steps are emulated by waits;
every trial saves a checkpoint with each report. Told are the starts of every trial, with the step
each began at. Runs in the environment of ``make peers``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEP_S = 0.1
MOST, LEAST, FACTOR = 90, 10, 3


def trainable(config: dict[str, Any]) -> None:
    """A training of MOST steps that reports and saves every LEAST of them."""
    from ray import tune

    step, folder = 0, Path(config["log"])
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as where:
            step = json.loads((Path(where) / "state.json").read_text())["step"]
    name = tune.get_context().get_trial_id()
    with (folder / "starts.jsonl").open("a") as file:
        file.write(json.dumps({"trial": name, "step": step, "pid": os.getpid()}) + "\n")
    while step < MOST:
        time.sleep(STEP_S)
        step += 1
        if step % LEAST == 0:
            loss = (config["lr"] - 0.3) ** 2 + 1 / step
            with tempfile.TemporaryDirectory() as where:
                (Path(where) / "state.json").write_text(json.dumps({"step": step}))
                saved = tune.Checkpoint.from_directory(where)
                tune.report({"loss": loss, "steps": step}, checkpoint=saved)


def drive(folder: Path, budget_s: float) -> None:
    """The search itself; goes on if the folder has one."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    where = folder / "asha"
    if tune.Tuner.can_restore(str(where)):
        tuner = tune.Tuner.restore(
            str(where), trainable, resume_unfinished=True, restart_errored=True
        )
    else:
        scheduler = ASHAScheduler(
            time_attr="steps", max_t=MOST, grace_period=LEAST, reduction_factor=FACTOR
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"lr": tune.uniform(0, 1), "log": str(folder)},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=-1,
                scheduler=scheduler,
                max_concurrent_trials=2,
                time_budget_s=budget_s,
            ),
            run_config=tune.RunConfig(
                name="asha",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        )
    tuner.fit()


def starts(folder: Path) -> list[dict[str, Any]]:
    """All starts so far."""
    path = folder / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def main() -> None:
    """Run it, disturbed, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--drive", action="store_true", help="(the search itself)")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.drive:
        drive(folder, arguments.budget)
        return
    command = [sys.executable, __file__, str(folder), "--drive", "--budget", str(arguments.budget)]
    process = subprocess.Popen(command, start_new_session=True)
    began: float | None = None
    last, restored, killed, end = 0.0, False, 0, time.monotonic() + 10 * arguments.budget
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
        found = starts(folder)
        if not found:
            continue
        now = time.monotonic()
        began = began if began is not None else now
        if not restored and now - began > arguments.budget / 2:
            restored = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            left = ["--budget", str(max(arguments.budget / 2, 1.0))]
            process = subprocess.Popen([*command[:-2], *left], start_new_session=True)
        elif now - began - last > arguments.every:
            last = now - began
            victims = [start["pid"] for start in found if alive(start["pid"])]
            if victims:
                killed += 1
                os.kill(victims[-1], signal.SIGKILL)
    first: dict[str, int] = {}
    again = 0
    for start in starts(folder):
        seen = start["trial"] in first
        again += seen and start["step"] == 0
        first.setdefault(start["trial"], start["step"])
    resumed = sum(start["step"] > 0 for start in starts(folder))
    print(
        f"{len(first)} trials, {killed} workers and {int(restored)} driver killed; "
        f"{again} starts from step 0 of trials that had begun before, {resumed} from a checkpoint"
    )


if __name__ == "__main__":
    main()
