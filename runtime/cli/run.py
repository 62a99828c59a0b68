"""``ithaca run job.yaml``: train, with progress, a run folder and a report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.runtime.cli.commands import Commands, add_job, load_job
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.folder import LOG, choose
from ithaca.runtime.timeouts import Timeouts

if TYPE_CHECKING:
    from ithaca.runtime.events import RunEnded

_STATUS = {"finished": 0, "drained": 0, "failed": 1}


def register(commands: Commands) -> None:
    """Add ``run``."""
    parser = commands.add_parser(
        "run", help="train a job", description="Train the job that a YAML file describes."
    )
    add_job(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest whole checkpoint of the run folder, on any layout",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="train in the background; the run outlives this terminal",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 when finished or drained, 1 when failed."""
    loaded = load_job(arguments)
    folder = choose(loaded.job, arguments.resume)
    kept = [word for word in arguments.overrides if not word.startswith("folder=")]
    words = ["run", arguments.job, *kept, f"folder={folder}"]
    if arguments.detach:
        return _detach([*words, *(["--resume"] if arguments.resume else [])], loaded, folder)
    again = shlex.join(["ithaca", *words, "--resume"])
    return _train(loaded, folder, arguments.resume, again)


def _detach(words: list[str], loaded: LoadedJob, folder: Path) -> int:
    from ithaca.runtime.detach import OUTPUT, detach

    pid = detach(words, folder, Timeouts.from_detect(loaded.job.detect).backstop_s)
    print(f"running in the background as process {pid}; its output: {folder / OUTPUT}")
    print(f"watch it:  ithaca status {folder} --follow")
    print(f"stop it:   ithaca drain {folder}")
    return 0


def _train(loaded: LoadedJob, folder: Path, resume: bool, again: str) -> int:
    # Only now: a mistake in the file must not wait for torch and Ray.
    from ithaca.runtime.progress import progress
    from ithaca.runtime.run import train
    from ithaca.runtime.stops import StoppedError, Stops

    stops = Stops(lambda line: print(f"\nithaca: {line}", file=sys.stderr))
    show = progress(sys.stdout)
    try:
        with stops.watching():
            end = train(
                loaded,
                folder,
                resume=resume,
                listeners=[show],
                on_controller=stops.control,
            )
    except StoppedError as stopped:
        print(f"\nithaca: stopped at once. To go on: {again}", file=sys.stderr)
        return stopped.exit_code
    finally:
        show.close()
    if end is None:
        print(f"{folder} is done: all {loaded.job.steps} steps. Nothing is left to resume.")
        return 0
    _say_goodbye(folder, end, again)
    return _STATUS[end.outcome]


def _say_goodbye(folder: Path, end: RunEnded, again: str) -> None:
    from ithaca.runtime.log import read
    from ithaca.runtime.report.page import write_page

    page = folder / "report.html"
    try:
        write_page(read(folder / LOG), page)
        print(f"report: {page}")
    except OSError as error:
        print(f"ithaca: no report could be written to {page}: {error.strerror}", file=sys.stderr)
    if end.outcome != "finished":
        print(f"to go on: {again}")
