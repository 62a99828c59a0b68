"""``ithaca report FOLDER``: one page of a run, and a trace for Perfetto; or a search's page."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event
from ithaca.runtime.log import LogError, read
from ithaca.runtime.report.page import write_page
from ithaca.runtime.report.trace import write_trace

LOG = "events.jsonl"
_SEARCH_LOG = "runs.jsonl"
_SEARCH_PAGE = "ithaca.tuners.loop.page"
"""By name, because the tuners stand on the runtime and not the other way round."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="write a run's report: one HTML page, and a trace; or a search's page",
        description=(
            "Write the report of the run in RUN_FOLDER, or of a search there; it may still be "
            "going on."
        ),
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
    if (folder / _SEARCH_LOG).is_file():
        return _search(folder, args)
    page = args.out or folder / "report.html"
    trace = args.trace or folder / "trace.json"
    events = _events(folder)
    if page.resolve() == trace.resolve():
        raise UserError(f"--out and --trace both name {page}; give them two names")
    for path in (page, trace):
        _check_place(path, folder / LOG)
    for write, path in ((write_page, page), (write_trace, trace)):
        _written(partial(write, events, path), path)
    print(f"report  {page}\ntrace   {trace}  (open it at https://ui.perfetto.dev)")
    return 0


def _search(folder: Path, args: argparse.Namespace) -> int:
    """The page of a search; of its trials there is no trace."""
    if args.trace is not None:
        raise UserError(f"{folder} holds a search, which has no trace; leave --trace away")
    page = args.out or folder / "report.html"
    _check_place(page, folder / _SEARCH_LOG)
    module = importlib.import_module(_SEARCH_PAGE)
    _written(lambda: module.write_page(folder.resolve().name, folder, page), page)
    print(f"report  {page}")
    return 0


def _written(write: Callable[[], object], path: Path) -> None:
    try:
        write()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write {path}: {reason}; choose another place with --out and --trace"
        ) from error


def _events(folder: Path) -> list[Event]:
    log = folder / LOG
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give the folder of a run, such as runs/<name>")
    if not log.is_file():
        raise UserError(
            f"{folder} is no run folder: it has no {LOG}; give the folder that `ithaca run` or "
            "`ithaca tune` printed"
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


def _check_place(path: Path, log: Path) -> None:
    """Refuse, before anything is written, a place that cannot be right."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist, so {path.name} cannot be written there")
    if path.resolve() == log.resolve():
        raise UserError(f"{path} is the log; give another file")
