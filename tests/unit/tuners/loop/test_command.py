"""What a search says of each stretch of knobs, and of its end."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ithaca.tuners.journal import open_journal
from ithaca.tuners.loop import command, knobs
from ithaca.tuners.loop.command import stretch_line, tell_end
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.driver import Ended
from ithaca.tuners.loop.knobs import Stretch
from ithaca.tuners.loop.load import LoadedTune, load_tune
from ithaca.tuners.loop.record import KNOBS_JOURNAL
from ithaca.tuners.search import Settings
from ithaca.tuners.space import Config

CONFIGS = Path(__file__).parents[4] / "configs"
SETTING: Config = {"layout": "2x1"}


def test_steps_under_a_setting_are_told_with_what_one_took() -> None:
    assert stretch_line(Stretch(SETTING, 8, 16, 0.25)) == "steps 9 to 16: layout=2x1: 250 ms a step"


def test_a_failure_is_told_with_its_reason_in_one_line() -> None:
    reason = "worker 0 failed in step 8: BudgetError: too small\n" + 100 * "more "
    line = stretch_line(Stretch(SETTING, 8, 8, None, reason))
    begin = (
        "behind step 8: layout=2x1: failed: worker 0 failed in step 8: BudgetError: too small more"
    )
    assert line.startswith(begin)
    assert line.endswith("more ...")
    assert "\n" not in line
    assert len(line) < 250


BEST: Config = {"optimizer.lr": 0.01}
SEARCH = cast(
    "LoadedTune",
    SimpleNamespace(tune=SimpleNamespace(name="a", set=()), steps=9, job_file=Path("job.yaml")),
)


def ended(reason: str = "") -> Ended:
    """A search that found something."""
    counts = {"done": 2}
    summary = Summary(8.0, 10.0, 0.5, BEST, counts, (("one",), 1), (), 0, 0, not reason, 8.0)
    return Ended(summary, 3.0, bool(reason), reason)


def refuse(path: Path, chunks: Iterable[bytes]) -> None:
    """A disk that is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_the_best_values_are_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "write_page", lambda name, folder: folder / "report.html")
    said: list[str] = []
    assert tell_end(SEARCH, tmp_path, ended(), said.append) == 0
    assert json.loads((tmp_path / "best.json").read_text()) == BEST
    assert f"report: {tmp_path / 'report.html'}" in said


def test_a_full_disk_takes_the_files_and_not_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(name: str, folder: Path) -> Path:
        refuse(folder, ())
        return folder

    monkeypatch.setattr(command, "write_page", page)
    monkeypatch.setattr(command, "replace_file", refuse)
    said: list[str] = []
    assert tell_end(SEARCH, tmp_path, ended("the journal cannot be written"), said.append) == 1
    assert said == [
        "stopped after 8.00 s of 10 s, 2 trials; start-up 3.0 s",
        "the journal cannot be written",
        f"no report could be written to {tmp_path}: No space left on device",
        "to go on, for what is left of the budget: add --resume",
        "best 0.5000: optimizer.lr=0.01",
        "train it:  ithaca run job.yaml steps=9 optimizer.lr=0.01",
        f"the best values could not be written to {tmp_path / 'best.json'}: No space left on "
        "device",
    ]
    said.clear()
    assert tell_end(SEARCH, tmp_path, ended(), said.append) == 1
    assert not list(tmp_path.iterdir())


def knobs_job(folder: Path) -> LoadedTune:
    """A search of knobs in ``folder``."""
    return load_tune(CONFIGS / "tune_knobs.yaml", [f"folder={folder}"])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_search_of_knobs_is_stopped_by_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    """Also one that was started with the signal ignored, as shells do in the background."""
    monkeypatch.setattr(knobs, "tune_knobs", lambda *_, **__: os.kill(os.getpid(), kind))
    said: list[str] = []
    before = signal.signal(kind, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            command._knobs(knobs_job(tmp_path), tmp_path, said.append)
        assert signal.getsignal(kind) is signal.SIG_IGN
    finally:
        signal.signal(kind, before)
    assert said[-1] == "\nstopped; to go on behind the last stretch: add --resume"


def test_a_search_of_knobs_that_is_done_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = knobs_job(tmp_path)
    arms = loaded.tune.make_arms()
    settings = Settings(maximize=False, num_trials=2, surrogate="random")
    journal, search = open_journal(tmp_path / KNOBS_JOURNAL, settings, arms)
    with journal:
        for seconds in (0.5, 0.25):
            asked = search.ask(0.0)
            assert asked is not None
            journal.write(asked)
            journal.write(search.tell(asked.trial, seconds, now_s=0.0, cost_s=seconds))
    step = [loaded.steps - 1]
    monkeypatch.setattr(
        knobs, "find_checkpoint", lambda *_, **__: (SimpleNamespace(step=step[0]), "")
    )
    assert knobs.found_best(tmp_path, loaded.steps) is None
    step[0] = loaded.steps
    said: list[str] = []
    assert command._knobs(loaded, tmp_path, said.append) == 0
    assert said[0] == f"{tmp_path} is done: all 200 steps. Nothing is left to resume."
    fastest = search.full(search.trials[1])
    assert json.loads((tmp_path / "best.json").read_text()) == fastest
    assert knobs.found_best(tmp_path / "elsewhere", 1) is None
