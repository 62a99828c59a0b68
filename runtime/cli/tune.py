"""``ithaca tune search.yaml``: find the values of a job that make it best, within a budget."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands

_COMMAND = "ithaca.tuners.loop.command"
"""By name, because the tuners stand on the runtime and not the other way round."""


def register(commands: Commands) -> None:
    """Add ``tune``."""
    parser = commands.add_parser(
        "tune",
        help="search the values of a job for the best result within a budget",
        description=(
            "Trains a job with many configurations, gives more time to those that do well, and "
            "ends with the budget. Exit code 0: a value was found; 1: none; 2: a mistake in the "
            "search or its job."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("search", metavar="search.yaml", help="the search's file")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="set a value of the search, such as budget=5min or policy=boasf",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the newest search of this name, to the end of its budget or of a new one",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Search."""
    began_s = time.monotonic()  # before torch and Ray are imported
    command = importlib.import_module(_COMMAND)
    code: int = command.tune(
        arguments.search,
        arguments.overrides,
        arguments.resume,
        sys.stdout,
        lambda line: print(line, flush=True),
        began_s,
    )
    return code
