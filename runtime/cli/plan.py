"""``ithaca plan job.yaml``: the plan, each worker's program and its simulated timeline."""

from __future__ import annotations

import argparse
import json
import shutil
from typing import TYPE_CHECKING

from ithaca.runtime.cli.commands import Commands, add_job, load_job
from ithaca.runtime.cli.table import gantt, table
from ithaca.runtime.config.units import about_size

if TYPE_CHECKING:
    from ithaca.runtime.preview import Preview

_WIDEST = 400
_MOST_WORKERS = 4096


def register(commands: Commands) -> None:
    """Adds ``plan`` to the command line."""
    parser = commands.add_parser(
        "plan",
        help="the plan of a job",
        description="Shows the plan of a job and what it should cost. Trains and writes nothing.",
    )
    add_job(parser)
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="the best layout for N workers, whatever the job's own layout says",
    )
    parser.add_argument("--programs", action="store_true", help="the program of each worker")
    parser.add_argument("--timeline", action="store_true", help="one simulated step as a chart")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; ``ConfigError`` if the job has none."""
    loaded = load_job(arguments)
    # Only now: a mistake in the file must not wait for torch.
    from ithaca.runtime.preview import preview

    seen = preview(loaded, arguments.workers)
    if arguments.json:
        print(json.dumps(as_json(seen), indent=1))
        return 0
    print(str(seen.plan), end="")
    print("\n".join(["", *summary(seen)]))
    if arguments.programs:
        for program in seen.programs.values():
            print(f"\n{program}", end="")
    if arguments.timeline:
        columns = min(shutil.get_terminal_size().columns, _WIDEST)
        print("\n".join(["", *gantt(seen.timeline, max(40, columns - 8))]))
    return 0


def summary(seen: Preview) -> list[str]:
    """Each worker's part, and the time of a step."""
    rows = [
        (
            f"w{worker}",
            str(seen.plan.layers_of(worker)),
            str(len(program.actions)),
            about_size(seen.timeline.peak_bytes[worker]),
            f"{seen.timeline.busy_s(worker) * 1000:.2f} ms",
        )
        for worker, program in seen.programs.items()
    ]
    lines = table([("worker", "layers", "actions", "memory", "busy"), *rows], right=[2, 3, 4])
    step = f"step {seen.timeline.step_s * 1000:.2f} ms, {seen.timeline.bubble:.0%} idle"
    return [*lines, "", f"{step}; times are {seen.profile.origin.get('times', 'given')}"]


def as_json(seen: Preview) -> dict[str, object]:
    """Plan, programs and timeline as plain data; times in seconds, memory in bytes."""
    return {
        "plan": str(seen.plan),
        "programs": {str(worker): str(program) for worker, program in seen.programs.items()},
        "step_s": seen.timeline.step_s,
        "peak_bytes": {str(worker): peak for worker, peak in seen.timeline.peak_bytes.items()},
        "timeline": {
            str(worker): [(str(one.action), one.start_s, one.end_s) for one in timed]
            for worker, timed in seen.timeline.rows.items()
        },
        "origin": dict(seen.profile.origin),
    }


def _workers(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= number <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_WORKERS}")
    return number
