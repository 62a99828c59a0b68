"""What ``ithaca tune`` does once its words are read."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from textwrap import shorten
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from ithaca.runtime.atomic import replace_file
from ithaca.runtime.errors import UserError
from ithaca.runtime.report.wording import duration, figure, plural
from ithaca.tuners.loop.driver import Driver, Ended, search
from ithaca.tuners.loop.load import LoadedTune, load_tune, overrides
from ithaca.tuners.loop.page import write_page
from ithaca.tuners.loop.progress import progress, told
from ithaca.tuners.loop.record import JOURNAL, KNOBS_JOURNAL
from ithaca.tuners.space import Config, Space

if TYPE_CHECKING:
    from ithaca.tuners.loop.knobs import Stretch

Say = Callable[[str], None]

_REASON = 200
"""Characters of a reason in a line of progress."""


def tune(file: str, changes: list[str], resume: bool, out: TextIO, say: Say, began_s: float) -> int:
    """Search; 0 when it ended with a value, 1 without one.

    Args:
        file: of the search.
        changes: ``key=value`` words.
        resume: go on with the search in the folder.
        out: where progress is shown.
        say: prints a line.
        began_s: when the user called, by ``time.monotonic``.

    Raises:
        UserError: the file, the folder or the cluster cannot be used.
    """
    loaded = load_tune(file, changes)
    folder = choose(loaded, resume)
    t = loaded.tune
    if t.knobs:
        return _knobs(loaded, folder, say)
    say(
        f"{t.name}: {duration(t.budget)} for {loaded.job_file.name}, {t.policy}, "
        f"{plural(len(t.make_arms()), 'arm')}, {plural(t.workers, 'trial')} at once"
    )
    show = progress(out)
    try:
        with _stopping(say) as driver:
            ended = search(loaded, folder, show, driver, began_s)
    finally:
        show.close()
    return tell_end(loaded, folder, ended, say)


def _knobs(loaded: LoadedTune, folder: Path, say: Say) -> int:
    """Train the job once, and find the fastest setting of its knobs on the way."""
    # The controller and all it needs: other searches begin a second earlier without it.
    from ithaca.tuners.loop.knobs import found_best, tune_knobs

    t = loaded.tune
    best = found_best(folder, loaded.steps)
    if best is not None:
        say(f"{folder} is done: all {loaded.steps} steps. Nothing is left to resume.")
        say(f"fastest: {told(best)}")
        return 0 if _keep(folder, best, say) else 1
    settings = plural(len(t.make_arms()), "setting")
    say(f"{t.name}: {settings} of the knobs of {loaded.job_file.name}, {t.stretch} steps at a time")
    with _interrupted(say):
        ended = tune_knobs(
            loaded.job_file,
            Space.parse(t.knobs),
            folder,
            set=t.set,
            steps=t.stretch,
            trials=t.trials,
            policy=t.policy,
            seed=t.seed,
            tell=lambda stretch: say(stretch_line(stretch)),
        )
    how = "finished" if ended.finished else ended.end.outcome
    say(f"{how} after {ended.end.step} steps; state {ended.end.state_hash}")
    say(f"fastest: {told(ended.best)}")
    kept = _keep(folder, ended.best, say)
    return 0 if ended.finished and kept else 1


def stretch_line(stretch: Stretch) -> str:
    """What came of some steps under one setting; the journal has all of a reason."""
    setting = told(stretch.setting)
    if stretch.seconds is None:
        reason = shorten(stretch.reason, _REASON, placeholder=" ...")
        return f"behind step {stretch.first}: {setting}: failed: {reason}"
    return (
        f"steps {stretch.first + 1} to {stretch.last}: {setting}: "
        f"{duration(stretch.seconds)} a step"
    )


def tell_end(loaded: LoadedTune, folder: Path, ended: Ended, say: Say) -> int:
    """Say how it ended, and write the report and the best values; the exit code."""
    s = ended.summary
    number = sum(s.trials.values())
    took = s.ended_s if s.over else s.now_s
    lost = f"; {plural(s.lost, 'process')} lost" if s.lost else ""
    if s.lost or s.again:
        lost += f", {plural(s.again, 'trial')} begun anew"
    say(
        f"{'stopped' if ended.stopped else 'finished'} after {took:.2f} s of {s.budget_s:g} s, "
        f"{plural(number, 'trial')}{lost}; start-up {ended.startup_s:.1f} s"
    )
    if ended.reason:
        say(ended.reason)
    if number:
        _report(loaded.tune.name, folder, say)
    if s.unsaved:
        say(f"the last state is not on the disk, only in the processes: {s.unsaved}")
    if ended.stopped:
        say("to go on, for what is left of the budget: add --resume")
    if s.best is None or s.config is None:
        say("no trial has a value; the report's table tells why")
        return 1
    say(f"best {figure(s.best)}: {told(s.config)}")
    words = [*loaded.tune.set, f"steps={loaded.steps}", *overrides(s.config)]
    say(f"train it:  ithaca run {loaded.job_file} {' '.join(words)}")
    kept = _keep(folder, s.config, say)
    return 0 if kept and not ended.reason else 1


def _report(name: str, folder: Path, say: Say) -> None:
    try:
        say(f"report: {write_page(name, folder)}")
    except OSError as error:
        say(f"no report could be written to {folder}: {error.strerror}")


def _keep(folder: Path, best: Config, say: Say) -> bool:
    """Write the best values down; whether that was possible."""
    path = folder / "best.json"
    try:
        replace_file(path, [f"{json.dumps(dict(best), indent=2)}\n".encode()])
    except OSError as error:
        say(f"the best values could not be written to {path}: {error.strerror}")
        return False
    return True


def choose(loaded: LoadedTune, resume: bool) -> Path:
    """The folder of the search; nothing is made yet.

    Raises:
        UserError: a new search in the named folder of another, or nothing to go on with.
    """
    named = loaded.tune.folder
    base = Path(named) if named else Path("runs") / loaded.tune.name
    numbered = [base]
    if not named:
        for number in count(2):
            if not _begun(numbered[-1]):
                break
            numbered.append(base.with_name(f"{base.name}-{number}"))
    begun = [folder for folder in numbered if _begun(folder)]
    if resume:
        if not begun:
            raise UserError(f"{base} holds no search to go on with. Leave --resume away.")
        return begun[-1]
    if named and begun:
        raise UserError(
            f"{base} holds a search already. Add --resume to go on with it, or give another "
            "folder=..."
        )
    return numbered[-1]


def _begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in (JOURNAL, KNOBS_JOURNAL))


@contextmanager
def _stopping(say: Say) -> Iterator[Callable[[Driver], None]]:
    """The first SIGINT or SIGTERM ends the search in order, the second at once."""
    drivers: list[Driver] = []

    def stop(kind: int, frame: FrameType | None) -> None:
        if not drivers or drivers[0].stopping:
            raise KeyboardInterrupt
        drivers[0].stopping = True
        say("\nstopping; once more to stop at once")

    with _on_signals(stop):
        yield drivers.append


@contextmanager
def _interrupted(say: Say) -> Iterator[None]:
    """SIGINT or SIGTERM ends a search of knobs behind the checkpoint of its last stretch."""

    def stop(kind: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _on_signals(stop):
        try:
            yield
        except KeyboardInterrupt:
            say("\nstopped; to go on behind the last stretch: add --resume")
            raise


@contextmanager
def _on_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, stop) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
