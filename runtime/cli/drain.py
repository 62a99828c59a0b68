"""``ithaca drain RUN_FOLDER``: lets a run finish its step, write a checkpoint and stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.runtime.cli.status import add_timeout, seconds
from ithaca.runtime.control.client import ControlClient, connect
from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.control.trouble import ControlError, Trouble
from ithaca.runtime.errors import UserError

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands

_WAIT_S = 600.0


def register(commands: Commands) -> None:
    """Adds ``drain`` to the command line."""
    parser = commands.add_parser(
        "drain",
        help="let a running job finish its step, checkpoint and end",
        description="Lets the run in RUN_FOLDER finish its step, write a checkpoint and end.",
        allow_abbrev=False,
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--worker",
        type=int,
        metavar="N",
        help="only worker N leaves, behind a step; the run goes on without it",
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        type=seconds,
        const=_WAIT_S,
        metavar="SECONDS",
        help=f"wait until the run has ended, at most so long ({_WAIT_S:g} if not given)",
    )
    add_timeout(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Asks for the drain; ``ControlError`` when there is no such run.

    With ``--wait``: exit code 1 when the run has not ended in time, or its controller died.
    """
    with connect(arguments.run_folder, arguments.timeout) as client:
        if arguments.worker is not None:
            return _leave(client, arguments.worker)
        started = client.drain()
        done = "the run will stop after this step" if started else "the run is stopping already"
        print(done, flush=True)
        if arguments.wait is None:
            return 0
        return _wait(client, arguments.run_folder, arguments.wait)


def _leave(client: ControlClient, worker: int) -> int:
    """Asks one worker to leave; what comes of it is in the run's events."""
    if worker < 0:
        raise UserError(f"workers are numbered from 0; there is no worker {worker}")
    started = client.drain(worker)
    done = "will leave behind a step" if started else "is about to leave already"
    print(f"worker {worker} {done}; ithaca status shows when the run goes on without it")
    return 0


def _wait(client: ControlClient, run_folder: Path, limit_s: float) -> int:
    """Reads events until there are no more; they are in the log, so none is printed here."""
    try:
        for _ in client.events(first=-1, limit_s=limit_s):
            pass
    except ControlError as error:
        # Between the end of the run and ours the server may close before we saw the last chunk;
        # a controller that ended in order has taken its file away first.
        gone = error.trouble is Trouble.UNREACHABLE
        if not (gone and _removed(run_folder)):
            what = "the run's controller went away without ending the run" if gone else error
            print(f"ithaca: {what}", file=sys.stderr)
            return 1
    print("the run has ended")
    return 0


def _removed(run_folder: Path) -> bool:
    try:
        Credentials.read(run_folder)
    except ControlError:
        return True
    return False
