"""What every command shares: how it registers, and the arguments of those that read a job.

A command is a module with ``register(commands)``. It adds one parser, named like the module, and
sets as its default ``run`` a function from the parsed arguments to the exit code.
"""

from __future__ import annotations

import argparse
from typing import TypeAlias

from ithaca.runtime.config.load import LoadedJob, load

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``register`` adds its parser to."""


def add_job(parser: argparse.ArgumentParser) -> None:
    """The two arguments that name a job: its file and overrides."""
    parser.add_argument("job", metavar="job.yaml", help="the job's file")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="set a value for this time, such as optimizer.lr=1e-3",
    )


def load_job(arguments: argparse.Namespace) -> LoadedJob:
    """The job that the arguments name; ``ConfigError`` if it cannot be used."""
    return load(arguments.job, arguments.overrides)
