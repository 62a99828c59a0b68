"""How the driver of a search ends it, and what it has started."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.errors import UnwritableError, UserError
from ithaca.tuners.loop import driver as driver_module
from ithaca.tuners.loop.coordinator import Summary
from ithaca.tuners.loop.coordinator_process import Pulse
from ithaca.tuners.loop.driver import Driver
from ithaca.tuners.loop.hirer import Hirer
from ithaca.tuners.loop.load import LoadedTune


def order(folder: Path, patch: pytest.MonkeyPatch, pid: int | None) -> list[str]:
    """What is ended, in order, when the user stops a search whose coordinator is ``pid``."""
    done: list[str] = []

    def kill(handle: Any) -> None:  # noqa: ANN401 - a handle
        done.append(f"no successor of {handle}")

    def end(number: int, _: int) -> None:
        done.append(f"end {number}")
        raise ProcessLookupError

    ray = SimpleNamespace(is_initialized=lambda: True, kill=kill)
    patch.setitem(sys.modules, "ray", cast("Any", ray))
    patch.setattr(driver_module, "os", SimpleNamespace(kill=end))
    hirer = SimpleNamespace(dismiss=lambda: done.append("dismiss"))
    patch.setattr(driver_module, "Hirer", lambda *_: hirer)
    patch.setattr(driver_module, "_start", lambda *_: "the coordinator")

    class Stopped(Driver):
        def _first(self, hirer: object) -> None:
            self._pid = pid
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stopped(cast("LoadedTune", None), folder, lambda _: None).run(
            cast("Cluster", None), cast("LoadedJob", None), 0.0
        )
    return done


def test_a_coordinator_ends_before_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write down that they were lost, which the user would read after ``--resume``."""
    told = ["no successor of the coordinator", "end 7", "dismiss"]
    assert order(tmp_path, monkeypatch, 7) == told


def test_one_that_has_not_come_up_needs_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ["no successor of the coordinator", "dismiss"]
    assert order(tmp_path, monkeypatch, None) == told


def summary(over: bool = False) -> Summary:
    """How a search stands after a second."""
    return Summary(1.0, 10.0, 0.5, {"x": 1}, {"done": 1}, (("one",), 1), (), 0, 0, over, 0.9)


def watched(tell: list[Summary], *answers: Pulse) -> Driver:
    """A driver whose coordinator answers so."""
    told = iter(answers)

    class Answered(Driver):
        def _ask(self) -> Any:  # noqa: ANN401 - what Ray answered
            return next(told)

    made = Answered(cast("LoadedTune", None), Path(), tell.append)
    made._pid = 7
    return made


NO_ROOM = UnwritableError("journal cannot be written: No space left on device")
NOBODY = cast("Hirer", SimpleNamespace(arrived=lambda _: {}))


def test_a_search_whose_disk_is_full_ends_with_what_it_found() -> None:
    tell: list[Summary] = []
    driver = watched(tell, Pulse(7, summary()), Pulse(7, summary(), refused=NO_ROOM))
    ended = driver._watch(NOBODY, 0.0)
    assert ended.stopped
    assert ended.reason == str(NO_ROOM)
    assert ended.summary.best == 0.5
    assert tell == [summary()]


def test_one_that_found_nothing_yet_says_why() -> None:
    driver = watched([], Pulse(7, None), Pulse(7, None, refused=NO_ROOM))
    with pytest.raises(UnwritableError, match="No space left"):
        driver._watch(NOBODY, 0.0)


def test_a_search_that_the_user_has_to_correct_is_refused() -> None:
    wrong = UserError("the first 10 trials all failed")
    driver = watched([], Pulse(7, summary()), Pulse(7, summary(), refused=wrong))
    with pytest.raises(UserError, match="all failed"):
        driver._watch(NOBODY, 0.0)
