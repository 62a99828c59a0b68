"""``python benchmarks/peers/ray_tune_pause.py FOLDER``: what a pause costs under Ray Tune.

The same as ``benchmarks/tuner/pause.py``: a trial of so many megabytes pauses, and goes on in
another process. A scheduler pauses it with every report and takes it up again at once. Told are the
seconds until the report has given the state away, and from there until the next process has loaded
it. Runs in the environment of ``make peers``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any


def trainable(config: dict[str, Any]) -> None:
    """Loads what is there, notes when, and reports its state once."""
    import numpy as np
    from ray import tune

    round_, state = 0, np.random.default_rng(0).bytes(config["size"])
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as where:
            round_ = int((Path(where) / "round").read_text())
            state = (Path(where) / "state").read_bytes()
    note(config, round_, "loaded")
    with tempfile.TemporaryDirectory() as where:
        note(config, round_, "pausing")
        (Path(where) / "round").write_text(str(round_ + 1))
        (Path(where) / "state").write_bytes(state)
        # The scheduler pauses the trial with this report: the process ends in it.
        tune.report({"round": round_ + 1}, checkpoint=tune.Checkpoint.from_directory(where))
    time.sleep(60)


def note(config: dict[str, Any], round_: int, what: str) -> None:
    """When something happened in which process."""
    line = {"round": round_, "what": what, "pid": os.getpid(), "time_s": time.time()}
    with Path(config["log"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def pause(folder: Path, size: int, rounds: int) -> None:
    """One trial that is paused ``rounds`` times."""
    import ray
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    log = folder / "pauses.jsonl"

    class Pauses(FIFOScheduler):  # type: ignore[misc]
        """Pauses a trial with every report but the last."""

        def on_trial_result(
            self,
            controller: Any,  # noqa: ANN401 - Ray's
            trial: Any,  # noqa: ANN401
            result: dict[str, Any],
        ) -> str:
            """What is done now that a trial has reported."""
            del controller, trial
            with log.open("a") as file:
                line = {"round": result["round"] - 1, "what": "reported", "time_s": time.time()}
                file.write(json.dumps(line) + "\n")
            more = result["round"] < rounds + 1
            return str(TrialScheduler.PAUSE if more else TrialScheduler.STOP)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        trainable,
        param_space={"size": size, "log": str(log)},
        tune_config=tune.TuneConfig(metric="round", mode="max", scheduler=Pauses()),
        run_config=tune.RunConfig(name="pause", storage_path=str(folder), verbose=0),
    ).fit()


def rows(log: Path) -> list[tuple[float, float]]:
    """Seconds until the report was there, and from there until another process had the state."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    at = {(line["round"], line["what"]): line for line in lines}
    found = []
    for round_ in range(max(line["round"] for line in lines)):
        begun, told = at[round_, "pausing"], at[round_, "reported"]
        loaded = at[round_ + 1, "loaded"]
        assert loaded["pid"] != begun["pid"], "it went on in the same process"
        found.append((told["time_s"] - begun["time_s"], loaded["time_s"] - told["time_s"]))
    return found


def main() -> None:
    """Pause, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True)
    pause(folder, arguments.megabytes * 1_000_000, arguments.rounds)
    found = rows(folder / "pauses.jsonl")
    both = [saved + gone_on for saved, gone_on in found]
    told, gone_on = (median(column) for column in zip(*found, strict=True))
    print(
        f"{len(found)} pauses of {arguments.megabytes} MB: reported after {told:.3f} s, "
        f"going on elsewhere after {gone_on:.3f} s more; "
        f"together {median(both):.3f} s ({min(both):.3f} to {max(both):.3f})"
    )


if __name__ == "__main__":
    main()
