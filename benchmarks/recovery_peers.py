"""One fault, side by side: ``python -m benchmarks.recovery_peers [--csv FILE] [ARM ...]``.

The same toy job - four data-parallel workers on gloo, steps of the same length by emulated
compute, the same batches and AdamW - under torchrun with its restart, Ray Train with its restart,
torchft, and ithaca. In each run one worker kills itself with SIGKILL in the middle of the same
step. Reported are the pause, what was done again, what was lost, and whether the final parameters
are those of the arm's own undisturbed run. The peers live in an environment of their own, made by
``make peers``.

Arms take turns; runs that are in the file are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import yaml

from benchmarks.peers.figures import Figures, UnfinishedError, figures
from benchmarks.peers.task import Task
from benchmarks.recovery_study.sheet import Sheet
from ithaca.runtime.events import Event, Recovered, RunEnded, StepDone
from ithaca.runtime.folder import LOG
from ithaca.runtime.log import read

PEERS = Path("build/peers/bin/python")
"""The interpreter of the environment that ``make peers`` makes."""
MOST_RESTARTS = 3
LIMIT_S = 420.0
ARMS = ("torchrun", "ray train", "torchft", "ithaca")
UNDISTURBED = "undisturbed"
COLUMNS = (
    "arm", "run", "step_s", "stall_s", "pause_s", "steps_repeated", "samples_repeated",
    "samples_lost", "hash", "same_as_undisturbed", "load",
)  # fmt: skip


@contextmanager
def started(
    command: Sequence[str | Path], output: Path, **pipes: Any  # noqa: ANN401
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """A process in a session of its own, of which nothing is left behind."""
    with output.open("a") as stream:
        pipes.setdefault("stdout", stream)
        process = subprocess.Popen(
            [str(word) for word in command],
            stderr=stream,
            text=True,
            start_new_session=True,
            **pipes,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)


def wait(processes: Sequence[subprocess.Popen[str]], output: Path) -> None:
    """Return when all have ended well; ``RuntimeError`` with the last output if one has not."""
    for process in processes:
        if process.wait(timeout=LIMIT_S) != 0:
            raise RuntimeError(f"exit code {process.returncode}: {output.read_text()[-3000:]}")


def torchrun(module: str, workers: int, *arguments: object) -> list[str]:
    """A command that starts ``workers`` on this machine and restarts them when one fails."""
    return [
        *python("torch.distributed.run", "--standalone"),
        f"--nproc-per-node={workers}",
        f"--max-restarts={MOST_RESTARTS}",
        "-m",
        module,
        *map(str, arguments),
    ]


def python(module: str, *arguments: object) -> list[str]:
    """A command that runs ``module`` in the environment of the peers."""
    return [str(PEERS), "-m", module, *map(str, arguments)]


def run_torchrun(task: Path, folder: Path) -> None:
    """The group of workers under one elastic agent.

    With one store for all starts, which is its default, the workers of a second start read the
    addresses of the first from it and wait for them in vain; so each start gets a store of its own.
    """
    module, workers = "benchmarks.peers.elastic_worker", Task.read(task).workers
    own_stores = ["env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"]
    output = folder / "output.txt"
    with started([*own_stores, *torchrun(module, workers, task, folder)], output) as process:
        wait([process], output)


def run_ray_train(task: Path, folder: Path) -> None:
    """A TorchTrainer on a Ray cluster of its own."""
    output = folder / "output.txt"
    with started(python("benchmarks.peers.ray_train_job", task, folder), output) as process:
        wait([process], output)


def run_torchft(task: Path, folder: Path) -> None:
    """A lighthouse, and one replica group for each worker, each under a torchrun of its own."""
    output, workers = folder / "output.txt", Task.read(task).workers
    with ExitStack() as stack:
        house = stack.enter_context(
            started(
                python("benchmarks.peers.torchft_lighthouse"),
                output,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        address = _first_line(house.stdout)
        module = "benchmarks.peers.torchft_replica"
        replicas = [
            stack.enter_context(started(torchrun(module, 1, task, folder, worker, address), output))
            for worker in range(workers)
        ]
        wait(replicas, output)


def _first_line(stream: IO[str] | None) -> str:
    assert stream is not None, "it was asked for"
    return stream.readline().strip()


def ithaca_job(task: Task, folder: Path) -> dict[str, Any]:
    """The same job for ithaca, with its defaults but for what the task fixes."""
    last = task.share(task.fault_worker)[-1]
    fault = f"crash w{task.fault_worker} at step {task.fault_step} before B m{last}"
    return {
        "name": "peers",
        "folder": str(folder / "run"),
        "steps": task.steps,
        "drills": True,
        "faults": [fault] if task.fault_step else [],
        "workload": {
            "use": "benchmarks.emulated:EmulatedWorkload",
            "weights": [1.0] * task.layers,
            "width": task.width,
            "rows": task.rows,
            "forward_s": task.forward_s,
            "backward_s": task.backward_s,
        },
        "layout": {"pipelines": task.workers, "stages": 1, "micro_batches": task.micro_batches},
        "optimizer": {
            "lr": task.lr,
            "betas": [0.9, 0.95],
            "weight_decay": 0.0,
            "clip": None,
            "schedule": "constant",
        },
        "checkpoint": {"every": task.checkpoint_every},
        "validation": {"every": 0},
    }


def run_ithaca(task: Path, folder: Path) -> None:
    """``ithaca run``."""
    job, output = folder / "job.yaml", folder / "output.txt"
    job.write_text(yaml.safe_dump(ithaca_job(Task.read(task), folder)))
    with started([sys.executable, "-m", "ithaca", "run", job], output) as process:
        wait([process], output)


def lines_of_run(events: Sequence[Event], task: Task) -> list[dict[str, Any]]:
    """The log of an ithaca run as the peers' workers write theirs.

    A step is committed by all workers or none; what a recovery did again is counted by the run.
    """
    lines: list[dict[str, Any]] = []
    for event in events:
        match event:
            case StepDone():
                used, rest = divmod(event.samples, task.rows)
                assert rest == 0, "a micro-batch is used as a whole"
                common = {"time_s": event.time_s, "worker": 0, "step": event.step}
                lines += [{"kind": "computed", "micro_batch": m, **common} for m in range(used)]
                lines.append({"kind": "committed", "micro_batches": list(range(used)), **common})
            case Recovered():
                again = sorted({row["micro_batch"] for row in event.redone})
                common = {"time_s": event.time_s, "worker": 0, "step": task.fault_step}
                lines += [{"kind": "computed", "micro_batch": m, **common} for m in again]
            case RunEnded():
                common = {"time_s": event.time_s, "worker": 0}
                lines.append({"kind": "finished", "hash": event.state_hash, **common})
    return lines


def measured(arm: str, task: Task) -> Figures:
    """Do one run; its figures."""
    starts = {
        "torchrun": run_torchrun,
        "ray train": run_ray_train,
        "torchft": run_torchft,
        "ithaca": run_ithaca,
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "task.json"
        task.write(path)
        starts[arm](path, folder)
        if arm == "ithaca":
            lines = lines_of_run(read(folder / "run" / LOG), task)
        else:
            texts = [file.read_text() for file in sorted(folder.glob("worker-*.jsonl"))]
            lines = [json.loads(line) for text in texts for line in text.splitlines()]
        try:
            return figures(
                lines,
                steps=task.steps,
                micro_batches=task.micro_batches,
                rows=task.rows,
                fault_step=task.fault_step,
            )
        except UnfinishedError as error:
            text = (folder / "output.txt").read_text()[-3000:]
            raise RuntimeError(f"{arm}: {error}\n{text}") from error


def row(arm: str, run: str, found: Figures, undisturbed: str | None, load: float) -> dict[str, str]:
    """What is written down of a run; ``undisturbed`` is the hash of the arm's first run."""
    return {
        "arm": arm,
        "run": run,
        "step_s": f"{found.step_s:.4f}",
        "stall_s": f"{found.stall_s:.4f}",
        "pause_s": f"{found.pause_s:.4f}",
        "steps_repeated": str(found.steps_repeated),
        "samples_repeated": str(found.samples_repeated),
        "samples_lost": str(found.samples_lost),
        "hash": found.state_hash,
        "same_as_undisturbed": "" if undisturbed is None else _yes(found.state_hash == undisturbed),
        "load": f"{load:.1f}",
    }


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def tell(row: Mapping[str, str]) -> str:
    """One line for the screen."""
    return (
        f"{row['arm']:10} {row['run']:14} step {float(row['step_s']):.3f} s, pause "
        f"{float(row['pause_s']):7.3f} s, stall {float(row['stall_s']):7.3f} s, repeated "
        f"{row['steps_repeated']} steps {row['samples_repeated']} samples, lost "
        f"{row['samples_lost']}, bits of the undisturbed run: {row['same_as_undisturbed'] or '-'}"
    )


def main() -> None:
    """Do what is missing, in turn, and tell."""
    usual = Task()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", default=list(ARMS), metavar="ARM")
    parser.add_argument("--csv", type=Path, default=Path("docs/results/recovery_peers.csv"))
    parser.add_argument("--undisturbed", type=int, default=2, help="runs without, of each arm")
    parser.add_argument("--crashes", type=int, default=3, help="runs with a fault, of each arm")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--fault-step", type=int, default=18)
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.arms) - set(ARMS)):
        parser.error(f"no arms {', '.join(unknown)}; there are {', '.join(ARMS)}")
    if not PEERS.exists() and set(arguments.arms) != {"ithaca"}:
        parser.error(f"there is no environment of the peers in {PEERS.parents[1]}; call make peers")
    # So that nothing is left behind either when this is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sheet = Sheet(arguments.csv, COLUMNS, ("arm", "run"))
    calm = replace(usual, steps=arguments.steps)
    runs = [f"{UNDISTURBED} {number + 1}" for number in range(arguments.undisturbed)]
    runs += [f"crash {number + 1}" for number in range(arguments.crashes)]
    for run in runs:
        task = (
            calm if run.startswith(UNDISTURBED) else replace(calm, fault_step=arguments.fault_step)
        )
        for arm in arguments.arms:
            if (arm, run) not in sheet:
                load = os.getloadavg()[0]
                known = {each["arm"]: each["hash"] for each in sheet.rows if each["run"] == runs[0]}
                sheet.add(row(arm, run, measured(arm, task), known.get(arm), load))
                print(tell(sheet.rows[-1]), flush=True)


if __name__ == "__main__":
    main()
