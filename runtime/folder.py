"""Which folder a run works in: a new one for a new run, the old one for a run that goes on."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from ithaca.runtime.config.job import Job
from ithaca.runtime.errors import UserError

LOG = "events.jsonl"
"""The event log in a run folder; its presence makes a folder a run's."""


def is_run(folder: Path) -> bool:
    """Whether a run has started in ``folder``."""
    return (folder / LOG).exists()


def choose(job: Job, resume: bool) -> Path:
    """The run folder of ``job``; nothing is made yet.

    A folder that the job names is used as it is. Otherwise it is ``runs/<name>``, with ``-2``,
    ``-3``, ... behind it for a new run if that is taken, and the newest of them to resume.

    Raises:
        UserError: a new run in the named folder of another, or nothing to resume.
    """
    if job.folder is not None:
        folder = Path(job.folder)
        if is_run(folder) and not resume:
            raise UserError(
                f"{folder} holds a run already. Add --resume to go on with it, or give another "
                "folder=..."
            )
        if resume and not is_run(folder):
            raise UserError(f"{folder} holds no run to resume. Leave --resume out to start one.")
        return folder
    taken, free = _numbered(job)
    if not resume:
        return free
    runs = [folder for folder in taken if is_run(folder)]
    if not runs:
        raise UserError(
            f"there is no run of {job.name!r} in {free.parent} to resume. Leave --resume out to "
            "start one, or name its folder with folder=..."
        )
    return runs[-1]


def earlier(job: Job) -> list[Path]:
    """Folders in which ``job`` may have run before, the newest first."""
    if job.folder is not None:
        return [Path(job.folder)]
    return list(reversed(_numbered(job)[0]))


def _numbered(job: Job) -> tuple[list[Path], Path]:
    """The folders ``runs/<name>``, ``runs/<name>-2``, ... that exist, and the next one."""
    base = Path("runs") / job.name
    taken: list[Path] = []
    for number in count(1):
        folder = base if number == 1 else base.with_name(f"{job.name}-{number}")
        if not folder.exists():
            return taken, folder
        taken.append(folder)
    raise AssertionError("count() does not end")
