"""``ithaca launch [torchrun flags] script.py [args]``: an unmodified torchrun script, on Ray."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ithaca.runtime import environment
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.script.flags import add_flags
from ithaca.runtime.script.request import spec_from

_EPILOG = """\
The script finds torchrun's environment (RANK, WORLD_SIZE, MASTER_ADDR, TORCHELASTIC_...) and Ray
Train's NODE_RANK; a failure of one rank ends all and, up to --max-restarts, starts all again.
Exit code: 0; 1 when a rank failed; 2 when nothing was started; 128 + n after signal n.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command; its ``run`` takes the parsed arguments and returns the exit code."""
    parser = commands.add_parser(
        "launch",
        help="run an unmodified torchrun script on Ray",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ithaca launch [torchrun flags] script.py [script arguments]",
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Launches what ``args`` say and returns the exit code.

    Raises:
        UserError: nothing was started, because the flags, the script or the cluster will not do.
    """
    shell = environment.snapshot()
    spec = spec_from(args, shell, Path.cwd())
    from ithaca.runtime.script.console import Console
    from ithaca.runtime.script.launch import launch

    console = Console(sys.stdout.buffer, sys.stderr.buffer)
    with Cluster.start(spec.nodes.least, args.address) as cluster:
        outcome = launch(spec, cluster, console)
    if outcome.report:
        console.say(outcome.report)
    return outcome.code
