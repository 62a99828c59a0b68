"""A warm worker that gives an assignment up keeps nothing of it."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ithaca.runtime.config.load import load
from ithaca.runtime.control import heartbeat
from ithaca.runtime.orders import Assignment
from ithaca.runtime.worker import Worker
from tests.helpers.real_job import write_job

NOBODY = "127.0.0.1:9"


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cycles are collected only where the code asks for it; torch's threads are put back."""
    # Captured records keep the error that was logged, with it the frames, with these the worker.
    monkeypatch.setattr(logging.getLogger(heartbeat.__name__), "disabled", True)
    threads = torch.get_num_threads()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        torch.set_num_threads(threads)


def left_behind(folder: Path) -> bool:
    """Whether the engine of an assignment is still there when it was given up."""
    loaded = load(write_job(folder / "job", detect="2s"))
    worker = Worker(1, "cpu", None)
    worker.assign(
        Assignment(loaded.job, loaded.workload_config, 0, (0, 1), str(folder), None, NOBODY, "t")
    )
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
