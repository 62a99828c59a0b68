"""A warm worker that gives an assignment up keeps nothing of it."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from ithaca.runtime.config.load import load
from ithaca.runtime.control import attendance, heartbeat
from ithaca.runtime.lease import Use
from ithaca.runtime.orders import Assignment, Deployment
from ithaca.runtime.sealed import Sealed
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
        Assignment(
            loaded.job, Sealed.of(loaded.workload_config), 0, (0, 1), str(folder), None, NOBODY, "t"
        )
    )
    return worker


def held(worker: Worker) -> _Part:
    """What it has for its assignment."""
    part = worker._lease._held
    assert part is not None
    return part


def left_behind(folder: Path) -> bool:
    """Whether the engine of an assignment is still there when it was given up."""
    worker = assigned(folder)
    trainer = weakref.ref(held(worker).training.trainer)
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


class Calls:
    """Calls of a worker in threads of their own, and the errors that they ended with."""

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._run, args=(call,)) for call in calls]
        for thread in self._threads:
            thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.errors.append(error)

    def join(self) -> None:
        """Wait for them."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def slow(
    patch: pytest.MonkeyPatch, owner: type, name: str, out: threading.Event
) -> threading.Event:
    """A method that stands for a while before it begins; the event that it is there."""
    usual, there = getattr(owner, name), threading.Event()

    def lasting(*given: object) -> object:
        there.set()
        out.wait(60)
        return usual(*given)

    patch.setattr(owner, name, lasting)
    return there


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("call", ["train", "train again", "adopt"])
def test_calls_that_are_slow_to_end_leave_nothing_either(
    call: str, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for them, which is the control, their frames keep the engine."""
    out = threading.Event()
    owner, name = {
        "train": (Training, "run"),
        "train again": (Use, "end"),
        "adopt": (Training, "wait_met"),
    }[call]
    there = slow(monkeypatch, owner, name, out)
    monkeypatch.setattr(Training, "deploy", lambda *_: True)
    worker = assigned(tmp_path)
    trainer = weakref.ref(held(worker).training.trainer)
    changed, here = worker._lease.changed, threading.get_ident()
    usual = changed.wait_for

    def wait_for(predicate: Callable[[], bool], bound_s: float | None = None) -> bool:
        if threading.get_ident() == here:
            if not waits:
                return False
            out.set()  # not before somebody waits for it
        return usual(predicate, bound_s)

    monkeypatch.setattr(changed, "wait_for", wait_for)
    first = SimpleNamespace(orders=SimpleNamespace(plan=SimpleNamespace(generation=0)))
    works: dict[str, list[Callable[[], object]]] = {
        "train": [worker.train],
        "train again": [worker.train, worker.train],
        "adopt": [lambda: worker.adopt(cast("Deployment", first))],
    }
    calls = Calls(*works[call])
    with changed:
        assert usual(lambda: worker._lease._calls == len(works[call]), 60)
    assert call == "train again" or there.wait(60)
    worker.release()
    assert (trainer() is None) == waits
    out.set()
    calls.join()
    assert len(calls.errors) == 1 or call != "adopt"
