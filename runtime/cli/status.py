"""``ithaca status RUN_FOLDER``: what a run is doing, and what happens in it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from ithaca.runtime.control.client import ControlClient, connect
from ithaca.runtime.control.deadlines import CLIENT_S
from ithaca.runtime.control.feed import FeedSlice
from ithaca.runtime.control.surface import RunStatus, WorkerStatus
from ithaca.runtime.control.trouble import ControlError, Trouble

_LAST_EVENTS = 10


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "status",
        help="show what a run is doing",
        description="Show what the run in RUN_FOLDER is doing.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--follow", action="store_true", help="then print the run's events until it ends"
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


def run(args: argparse.Namespace) -> int:
    """Prints the status; exit code 2 with one message when there is no such run."""
    try:
        with connect(args.run_folder, args.timeout) as client:
            status = client.status()
            print(json.dumps(asdict(status)) if args.json else describe(status), flush=True)
            if args.follow:
                _follow(client)
    except ControlError as error:
        print(f"ithaca status: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _follow(client: ControlClient) -> None:
    """Prints the last events and those to come, as they are in the log: one JSON object a line."""
    parts = client.events(first=-_LAST_EVENTS)
    for part in _until_gone(parts):
        if part.lost:
            print(f"ithaca status: {part.lost} events were missed here", file=sys.stderr)
        for line in part.lines:
            print(line, flush=True)


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
        facts.append(f"loss {status.loss:.4f}")
    if status.throughput is not None:
        facts.append(f"{status.throughput:,.0f} terms/s")
    started = datetime.fromtimestamp(status.started).isoformat(" ", "seconds")
    held = "none yet" if status.checkpoint_step is None else f"step {status.checkpoint_step}"
    lines = [
        "  ".join(facts),
        f"started {started}  checkpoint: {held}  generation {status.generation}",
        *(f"  {line}" for line in status.plan.splitlines()),
        *_table(status.workers),
    ]
    return "\n".join(lines)


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
