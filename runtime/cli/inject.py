"""``ithaca inject RUN_FOLDER FAULT``: a fault on purpose in a running job that allows drills."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.planner.plan import Plan
from ithaca.recovery.fault import EXAMPLE, Fault, FaultError, FaultKind
from ithaca.runtime.cli.status import add_timeout
from ithaca.runtime.control.client import connect
from ithaca.runtime.errors import UserError

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands


def register(commands: Commands) -> None:
    """Adds ``inject`` to the command line."""
    kinds = ", ".join(kind.value for kind in FaultKind)
    parser = commands.add_parser(
        "inject",
        help="cause a fault in a running job that allows drills",
        description=(
            "Causes a fault in the run in RUN_FOLDER, whose job must say drills: true. Without "
            f"'at step N' it strikes at the worker's next point. Faults: {kinds}."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "fault",
        nargs="+",
        metavar="FAULT",
        help=f"such as: crash w1, or: {EXAMPLE}, or: stop stage0.pipeline1 for 6s",
    )
    add_timeout(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Passes the fault on; ``UserError`` if it is none, or the run does not allow it."""
    try:
        fault = read_fault(" ".join(arguments.fault).split())
    except FaultError as error:
        raise UserError(f"that is no fault: {error}") from error
    with connect(arguments.run_folder, arguments.timeout) as client:
        status = client.status()
        try:
            placed = fault.on(Plan.parse(status.plan))
        except FaultError as error:
            raise UserError(str(error)) from error
        target = placed.target if isinstance(placed.target, int) else 0
        client.inject(target, str(placed))
    when = f"in step {placed.step}" if placed.step > 1 else "at its next point"
    whom = f"worker {placed.target}" if isinstance(placed.target, int) else "the controller"
    print(f"{placed.kind.value} for {whom} {when}; the run answers: ithaca status "
          f"{arguments.run_folder} --follow")  # fmt: skip
    return 0


def read_fault(words: list[str]) -> Fault:
    """A fault from the command line; without ``at step N`` it strikes at the next point.

    Raises:
        FaultError: the words are no fault.
    """
    if len(words) >= 2 and "at" not in words[2:3]:
        words = [*words[:2], "at", "step", "1", *words[2:]]
    return Fault.parse(" ".join(words))
