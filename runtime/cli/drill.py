"""``ithaca drill drill.yaml``: faults on purpose, and whether the result is what it should be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.runtime.drill.load import load_drill

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands


def register(commands: Commands) -> None:
    """Adds ``drill`` to the command line."""
    parser = commands.add_parser(
        "drill",
        help="disturb a job on purpose and compare its bits with the undisturbed run's",
        description=(
            "Runs the job of a drill undisturbed (unless its bits are known already) and with "
            "faults, shows what every failure cost, and compares. Exit code 0: as expected; 1: "
            "not; 2: a mistake in the drill or its job."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("drill", type=Path, metavar="drill.yaml", help="the drill's file")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="set a value in the drill's job, such as steps=12",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/drills"),
        metavar="FOLDER",
        help="where the runs and the undisturbed runs' bits are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="run the job undisturbed even if its bits are known"
    )
    parser.add_argument(
        "--show", action="store_true", help="only print the faults, random ones included"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carries the drill out: 0 when everything was as expected, else 1."""
    loaded = load_drill(arguments.drill, arguments.overrides)
    print(f"drill {loaded.drill.name}: {loaded.job.job.name}, {loaded.job.job.steps} steps")
    for fault in loaded.faults:
        print(f"  {fault}")
    if arguments.show:
        return 0
    # Only now: a mistake in the file must not wait for torch.
    from ithaca.runtime.drill.exercise import exercise
    from ithaca.runtime.drill.tell import tell

    done = exercise(loaded, arguments.folder, lambda line: print(line, flush=True), arguments.fresh)
    for line in tell(done.result, done.problems, loaded.drill.expect.identical):
        print(line)
    print(f"report: {done.folder / 'report.html'}")
    return 1 if done.problems else 0
