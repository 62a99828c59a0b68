"""How the driver of a search ends what it has started."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.config.load import LoadedJob
from ithaca.tuners.loop import driver as driver_module
from ithaca.tuners.loop.driver import Driver
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
