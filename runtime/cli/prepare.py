"""``ithaca prepare job.yaml``: what the workload wants done once before training."""

from __future__ import annotations

import argparse
import time

from ithaca.runtime.cli.commands import Commands, add_job, load_job
from ithaca.runtime.errors import UserError


def register(commands: Commands) -> None:
    """Adds ``prepare`` to the command line."""
    parser = commands.add_parser(
        "prepare",
        help="do what the workload wants done once before training",
        description="Computes what the workload keeps on disk, such as the structures of graphs, "
        "piece by piece on the cluster. What is there already is not computed again; if it was "
        "stopped, call it again.",
    )
    add_job(parser)
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="pieces at once (default: 2)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Does it and says how far it is; ``UserError`` if there is nothing that could be done."""
    if arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}; at least 1 is needed")
    loaded = load_job(arguments)
    try:
        pieces = loaded.build_workload().preparation()
    except ValueError as error:
        raise UserError(f"{loaded.marks.file}: {error}") from error
    if not pieces:
        raise UserError(
            f"{loaded.marks.file}: the workload {loaded.job.workload.use} keeps nothing on disk "
            "that could be prepared; for csgnn, name a folder with workload.data.cache"
        )
    # Only now: a mistake must not wait for Ray.
    from ithaca.runtime.cluster import Cluster
    from ithaca.runtime.preparation import prepare

    began = time.monotonic()
    address = loaded.job.cluster.address
    with Cluster.start(arguments.workers, address) as cluster:
        for done in prepare(cluster, pieces):
            spent = time.monotonic() - began
            print(f"prepared {done}/{len(pieces)} pieces in {spent:.1f} s", flush=True)
    return 0
