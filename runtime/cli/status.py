"""``ithaca status RUN_FOLDER``: what a run is doing, and what happens in it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ithaca.runtime.control.client import CLIENT_S, ControlClient, connect
from ithaca.runtime.control.feed import FeedSlice
from ithaca.runtime.control.surface import RunStatus, WorkerStatus
from ithaca.runtime.control.trouble import ControlError, Trouble
from ithaca.runtime.events import RunStarted, parse_event
from ithaca.runtime.progress import progress
from ithaca.runtime.report.wording import figure, printable, short

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands


def register(commands: Commands) -> None:
    """Adds ``status`` to the command line."""
    parser = commands.add_parser(
        "status",
        help="ask a running job how it is",
        description="Shows what the run in RUN_FOLDER is doing.",
        allow_abbrev=False,
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="then show the run's progress until it ends; with --json its events, one a line",
    )
    add_timeout(parser)
    parser.set_defaults(run=run)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Adds ``--timeout SECONDS``: how long the run may take to answer a call."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=CLIENT_S,
        metavar="SECONDS",
        help="how long the run may take to answer (default: %(default)g)",
    )


def seconds(text: str) -> float:
    """A time above zero in seconds, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 86400.0 * 365:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above zero, in seconds")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Prints the status; ``ControlError`` when there is no such run."""
    with connect(arguments.run_folder, arguments.timeout) as client:
        status = client.status()
        print(json.dumps(asdict(status)) if arguments.json else describe(status), flush=True)
        if arguments.follow and arguments.json:
            _follow(client, lambda line: print(line, flush=True))
        elif arguments.follow:
            _show(client, status)
    return 0


def _show(client: ControlClient, status: RunStatus) -> None:
    """What the run's own terminal shows."""
    display = progress(sys.stdout)
    begun = False

    def show(line: str) -> None:
        nonlocal begun
        try:
            event = parse_event(line)
        except ValueError:  # of another version: still worth a look
            print(printable(line), flush=True)
            return
        if not (begun or isinstance(event, RunStarted)):
            display(_beginning(status))
        begun = True
        display(event)

    try:
        _follow(client, show)
    finally:
        display.close()


def _beginning(status: RunStatus) -> RunStarted:
    """Stands in for a first event that is too old to be had: the loss is shown as it is."""
    return RunStarted(
        time_s=status.started,
        name=status.name,
        steps=status.steps,
        metric="loss",
        metric_scale=1.0,
        job={},
        identity={},
    )


def _follow(client: ControlClient, show: Callable[[str], None]) -> None:
    """Calls ``show`` with the events there were, as far as they are kept, and those to come."""
    for part in _until_gone(client.events()):
        if part.lost:
            print(f"ithaca status: {part.lost} earlier events are not shown", file=sys.stderr)
        for line in part.lines:
            show(line)


def _until_gone(parts: Iterator[FeedSlice]) -> Iterator[FeedSlice]:
    """``parts``; a run that was there and is gone has a message of its own."""
    try:
        yield from parts
    except ControlError as error:
        if error.trouble is not Trouble.UNREACHABLE:
            raise
        raise ControlError(
            Trouble.UNREACHABLE, "the run's controller went away without saying that the run ended"
        ) from None


def describe(status: RunStatus) -> str:
    """``status`` for people: some lines of text."""
    facts = [status.name, status.state, f"step {status.step}/{status.steps}"]
    if status.loss is not None:
        facts.append(f"loss {figure(status.loss)}")
    if status.throughput is not None:
        facts.append(f"{short(status.throughput)} terms/s")
    started = datetime.fromtimestamp(status.started).isoformat(" ", "seconds")
    held = "none yet" if status.checkpoint_step is None else f"step {status.checkpoint_step}"
    lines = [
        "  ".join(facts),
        f"started {started}  checkpoint: {held}  generation {status.generation}",
        *(f"  {line}" for line in status.plan.splitlines()),
        *_table(status.workers),
    ]
    return "\n".join(printable(line) for line in lines)


def _table(workers: tuple[WorkerStatus, ...]) -> list[str]:
    if not workers:
        return ["no workers"]
    rows = [("worker", "node", "pid", "state", "step", "last beat", "action")]
    rows += [_row(worker) for worker in workers]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(worker: WorkerStatus) -> tuple[str, str, str, str, str, str, str]:
    silent = worker.age_s is None
    return (
        f"w{worker.id}",
        worker.node,
        str(worker.pid),
        worker.state,
        "-" if silent else str(worker.step),
        "never" if worker.age_s is None else f"{worker.age_s:.1f} s ago",
        "-" if silent else f"{worker.action or '-'} for {worker.since_s:.1f} s",
    )
