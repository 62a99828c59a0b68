"""``ithaca report RUN_FOLDER``: one page of the run, and a trace for Perfetto."""

from __future__ import annotations

import argparse
from pathlib import Path

from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event
from ithaca.runtime.log import LogError, read
from ithaca.runtime.report.page import write_page
from ithaca.runtime.report.trace import write_trace

LOG = "events.jsonl"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="write a run's report: one HTML page, and a trace",
        description="Write the report of the run in RUN_FOLDER, which may still be going on.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: RUN_FOLDER/report.html)"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="the trace, for ui.perfetto.dev (default: RUN_FOLDER/trace.json)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes both files and prints where they are; 0.

    Raises:
        UserError: there is no readable log, or a file cannot be written.
    """
    folder: Path = args.run_folder
    page = args.out or folder / "report.html"
    trace = args.trace or folder / "trace.json"
    events = _events(folder)
    if page.resolve() == trace.resolve():
        raise UserError(f"--out and --trace both name {page}; give them two names")
    for path in (page, trace):
        _check_place(path, folder)
    for write, path in ((write_page, page), (write_trace, trace)):
        try:
            write(events, path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write {path}: {reason}; choose another place with --out and --trace"
            ) from error
    print(f"report  {page}\ntrace   {trace}  (open it at https://ui.perfetto.dev)")
    return 0


def _events(folder: Path) -> list[Event]:
    log = folder / LOG
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give the folder of a run, such as runs/<name>")
    if not log.is_file():
        raise UserError(
            f"{folder} is no run folder: it has no {LOG}; give the folder that `ithaca run` printed"
        )
    try:
        return read(log)
    except LogError as error:
        raise UserError(
            f"the log is damaged: {error}; remove the line, or report from a copy of the lines "
            "before it"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {log}: {error.strerror or error}") from error


def _check_place(path: Path, folder: Path) -> None:
    """Refuse, before anything is written, a place that cannot be right."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist, so {path.name} cannot be written there")
    if path.resolve() == (folder / LOG).resolve():
        raise UserError(f"{path} is the run's log; give another file")
