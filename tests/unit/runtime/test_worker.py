"""A warm worker that gives an assignment up keeps nothing of it."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ithaca.runtime.config.load import load
from ithaca.runtime.control import attendance, heartbeat
from ithaca.runtime.orders import Assignment
from ithaca.runtime.training import Training
from ithaca.runtime.worker import Worker, _Part
from tests.helpers.real_job import write_job

NOBODY = "127.0.0.1:9"


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cycles are collected only where the code asks for it; torch's threads are put back."""
    # Captured records keep the error that was logged, with it the frames, with these the worker.
    for each in (attendance, heartbeat):
        monkeypatch.setattr(logging.getLogger(each.__name__), "disabled", True)
    threads = torch.get_num_threads()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        torch.set_num_threads(threads)


def assigned(folder: Path) -> Worker:
    """A worker with an assignment; nobody answers at the controller's address."""
    loaded = load(write_job(folder / "job", detect="2s"))
    worker = Worker(1, "cpu", None)
    worker.assign(
        Assignment(loaded.job, loaded.workload_config, 0, (0, 1), str(folder), None, NOBODY, "t")
    )
    return worker


def left_behind(folder: Path) -> bool:
    """Whether the engine of an assignment is still there when it was given up."""
    worker = assigned(folder)
    trainer = weakref.ref(worker._current().training.trainer)
    worker.release()
    return trainer() is not None


@pytest.mark.usefixtures("by_hand")
def test_layers_are_gone_when_they_were_given_up(tmp_path: Path) -> None:
    assert not left_behind(tmp_path)


@pytest.mark.usefixtures("by_hand")
def test_without_collecting_cycles_they_would_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)
    assert left_behind(tmp_path)


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("waits", [True, False])
def test_a_training_that_is_slow_to_end_leaves_nothing_either(
    waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for it, which is the control, its frames keep the engine."""
    began, expelled, never = threading.Event(), threading.Event(), threading.Event()

    def run(training: Training) -> None:
        began.set()
        expelled.wait(60)
        never.wait(0.5)  # it is delayed on its way out
        raise RuntimeError(f"{training.trainer} was expelled")

    monkeypatch.setattr(Training, "run", run)
    monkeypatch.setattr(Training, "expel", lambda self, reason: expelled.set())
    if not waits:
        monkeypatch.setattr(_Part, "at_rest", True)
    worker = assigned(tmp_path)
    trainer = weakref.ref(worker._current().training.trainer)
    thread = threading.Thread(target=worker.train)
    thread.start()
    assert began.wait(60)
    worker.release()
    assert (trainer() is None) == waits
    thread.join(60)
    assert not thread.is_alive()
