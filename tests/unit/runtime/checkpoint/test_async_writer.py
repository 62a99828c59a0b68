"""The writing thread: bounded, outlived by nothing, and never the end of training."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint.async_writer import AsyncWriter
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.state import stage
from ithaca.runtime.checkpoint.store import CheckpointStore

WAIT_S = 30.0

States = Callable[[int], dict[str, dict[str, Tensor]]]
Manifests = Callable[[int, tuple[LayerFile, ...]], Manifest]


class GatedDisk(Disk):
    """Begins a file only once it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        super().write(path, self._gated(chunks))

    def _gated(self, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            yield chunk
            self.begun.set()
            assert self.may_go_on.wait(WAIT_S)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_it_writes_what_was_staged_while_the_state_goes_on(
    tmp_path: Path, states: States, manifest: Manifests
) -> None:
    store, writer, disk = CheckpointStore(tmp_path, keep=1), AsyncWriter(), GatedDisk()
    writer = AsyncWriter(disk=disk)
    live = states(5)
    folder = store.begin(5)
    report = writer.submit(folder, {name: stage(state) for name, state in live.items()}, 5)
    assert disk.begun.wait(WAIT_S)
    for state in live.values():
        state["param.weight"].zero_()
    assert not report.done()
    disk.may_go_on.set()
    done = report.result(WAIT_S)
    assert (done.step, done.error) == (5, None)
    found = store.commit(manifest(5, done.files))
    for layer in found.manifest.layers:
        read = read_layer(found.folder, layer)
        assert torch.equal(read["param.weight"], states(5)[layer.name]["param.weight"])
    writer.close(WAIT_S)


def test_a_full_disk_is_a_report(tmp_path: Path, states: States) -> None:
    class Full(Disk):
        def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    writer = AsyncWriter(disk=Full())
    report = writer.submit(tmp_path, {"head": stage(states(5)["head"])}, 5).result(WAIT_S)
    assert report.files == ()
    assert report.error == f"layer 'head' in {tmp_path}: No space left on device"
    gone = tmp_path / "gone"
    report = writer.submit(gone, {"head": stage(states(5)["head"])}, 6).result(WAIT_S)
    assert report.error is not None
    writer.close(WAIT_S)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_comes_out_of_the_future_and_the_thread_goes_on(
    tmp_path: Path, states: States
) -> None:
    writer = AsyncWriter(depth=2)
    wrong = writer.submit(tmp_path, {"": stage(states(5)["head"])}, 5)
    right = writer.submit(tmp_path, {"head": stage(states(5)["head"])}, 5)
    with pytest.raises(ValueError, match="a layer's name"):
        wrong.result(WAIT_S)
    assert right.result(WAIT_S).error is None
    writer.close(WAIT_S)


def test_a_save_too_many_is_refused_at_once(tmp_path: Path, states: States) -> None:
    disk = GatedDisk()
    writer = AsyncWriter(depth=1, disk=disk)
    layers = {"head": stage(states(5)["head"])}
    first = writer.submit(tmp_path, layers, 1)
    assert disk.begun.wait(WAIT_S)
    assert not writer.full
    second = writer.submit(tmp_path, layers, 2)
    assert writer.full
    third = writer.submit(tmp_path, layers, 3)
    assert third.done()
    assert "earlier checkpoints are still being written" in str(third.result().error)
    disk.may_go_on.set()
    assert first.result(WAIT_S).error is None
    assert second.result(WAIT_S).error is None
    writer.close(WAIT_S)


def test_closing_finishes_what_is_queued(tmp_path: Path, states: States) -> None:
    writer = AsyncWriter(depth=3)
    layers = {"head": stage(states(5)["head"])}
    reports = [writer.submit(tmp_path, layers, step) for step in range(3)]
    writer.close(WAIT_S)
    assert all(report.result(0).error is None for report in reports)
    with pytest.raises(RuntimeError, match="closed"):
        writer.submit(tmp_path, layers, 4)
    writer.close(WAIT_S)


@pytest.mark.parametrize("queued", [0, 1])
def test_closing_gives_up_what_takes_too_long(tmp_path: Path, states: States, queued: int) -> None:
    disk = GatedDisk()
    writer = AsyncWriter(depth=1, disk=disk)
    layers = {"head": stage(states(5)["head"])}
    reports = [writer.submit(tmp_path, layers, 1)]
    assert disk.begun.wait(WAIT_S)
    reports += [writer.submit(tmp_path, layers, 2) for _ in range(queued)]
    with pytest.raises(TimeoutError, match="the disk did not answer"):
        writer.close(0.01)
    disk.may_go_on.set()
    writer.close(WAIT_S)
    for report in reports:
        assert "the run ended before it was written" in str(report.result(0).error)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_never_wrote_closes(tmp_path: Path) -> None:
    AsyncWriter().close(0.0)
