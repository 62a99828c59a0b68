"""Crashes and full disks at every operation of a save: what is left is one whole checkpoint."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shutil import copytree

import pytest
import torch
from torch import Tensor

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint import store as stores
from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.folder import step_name
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.lock import RunLock

States = Callable[[int], dict[str, dict[str, Tensor]]]
Save = Callable[[CheckpointStore, int], Found]


@pytest.fixture(autouse=True)
def _no_real_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an fsync secures is modelled here; hundreds of saves need not wait for a real disk."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("os.posix_fadvise", lambda *arguments: None)


class CrashError(BaseException):
    """The machine died; nothing catches it."""


class CountingDisk(Disk):
    """Counts operations; a piece of a file, its fsync and a removal in a tree are one each."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        super().write(path, self._pieces(path, chunks))
        self.tick()

    def rename(self, old: Path, new: Path) -> None:
        self.tick()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self.tick()
        super().sync_folder(folder)

    def make_folder(self, folder: Path) -> None:
        self.tick()
        super().make_folder(folder)

    def remove(self, path: Path) -> None:
        for child in sorted(path.iterdir()) if path.is_dir() else ():
            self.tick()
            child.unlink()
        self.tick()
        super().remove(path)

    def tick(self) -> None:
        """Called before each operation."""
        self.count += 1

    def _pieces(
        self, path: Path, chunks: Iterable[bytes | memoryview]
    ) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            half = len(chunk) // 2
            yield chunk[:half]
            self.tick()
            yield chunk[half:]


class CrashingDisk(CountingDisk):
    """Dies before operation ``at``; with ``forgetful``, names that no fsync secured go back."""

    def __init__(self, at: int, forgetful: bool) -> None:
        super().__init__()
        self.at = at
        self.forgetful = forgetful
        self.unsynced: list[tuple[Path, Path]] = []

    def tick(self) -> None:
        super().tick()
        if self.count >= self.at:
            raise CrashError

    def rename(self, old: Path, new: Path) -> None:
        kept = new.read_bytes() if new.is_file() else None
        super().rename(old, new)
        if kept is None:
            self.unsynced.append((old, new))
        else:  # a file that replaced another goes back by giving the other its name again
            spare = new.with_name(f"{new.name}.before")
            spare.write_bytes(kept)
            self.unsynced += [(spare, spare), (old, new)]

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        for old, new in self.unsynced:
            if old == new:
                old.unlink()
        self.unsynced = [pair for pair in self.unsynced if pair[1].parent != folder]

    def lose(self) -> None:
        """The machine comes back, without what was not on the disk."""
        for old, new in reversed(self.unsynced):
            if old == new:
                original = old.with_name(old.name.removesuffix(".before"))
                if self.forgetful:
                    old.rename(original)
                else:
                    old.unlink()
            elif self.forgetful and new.exists() and not old.exists():
                new.rename(old)


class FullDisk(CountingDisk):
    """Is full at operation ``at``, and stays so or not; renaming and removing still work."""

    def __init__(self, at: int, stays: bool) -> None:
        super().__init__()
        self.at = at
        self.stays = stays

    def tick(self) -> None:
        super().tick()
        if self.count == self.at or (self.stays and self.count > self.at):
            raise OSError(errno.ENOSPC, "No space left on device")

    def remove(self, path: Path) -> None:
        Disk.remove(self, path)

    def rename(self, old: Path, new: Path) -> None:
        Disk.rename(self, old, new)


def _assert_whole(found: Found, states: States) -> None:
    """Every layer is there and has the bits of the checkpoint's own step: no mix."""
    expected = states(found.step)
    assert {layer.name for layer in found.manifest.layers} == expected.keys()
    for layer in found.manifest.layers:
        tensors = read_layer(found.folder, layer)
        assert tensors.keys() == expected[layer.name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, expected[layer.name][key])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, save: Save) -> Path:
    """A run folder with the checkpoints 10 and 20."""
    folder = tmp_path_factory.mktemp("prepared")
    for step in (10, 20):
        save(CheckpointStore(folder, keep=2), step)
    return folder


def _operations(prepared: Path, folder: Path, save: Save, step: int) -> int:
    """How many operations a save takes with checkpoints 10 and 20 before it."""
    copytree(prepared, folder)
    disk = CountingDisk()
    save(CheckpointStore(folder, keep=2, disk=disk), step)
    return disk.count


def _crashed(prepared: Path, folder: Path, save: Save, step: int, disk: CrashingDisk) -> None:
    """Makes a folder in which a save of ``step`` died."""
    copytree(prepared, folder)
    with pytest.raises(CrashError):
        save(CheckpointStore(folder, keep=2, disk=disk), step)
    disk.lose()


def _cleaned(folder: Path) -> CheckpointStore:
    """The folder's store as a new run opens it."""
    store = CheckpointStore(folder, keep=2)
    with RunLock(folder) as lock:
        store.clean(lock)
    return store


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_crash_anywhere_leaves_the_old_or_the_new(
    prepared: Path, tmp_path: Path, save: Save, states: States, forgetful: bool
) -> None:
    operations = _operations(prepared, tmp_path / "count", save, 30)
    assert operations > 30
    seen = set()
    for at in range(1, operations + 1):
        folder = tmp_path / str(at)
        _crashed(prepared, folder, save, 30, CrashingDisk(at, forgetful))
        search = CheckpointStore(folder, keep=2).newest()
        assert search.found is not None
        assert search.damages == ()
        assert search.found.step in (20, 30)
        seen.add(search.found.step)
        _assert_whole(search.found, states)
        store = _cleaned(folder)
        assert store.newest() == search
        assert _names(store) == {"latest", *map(step_name, store.steps())}
        _assert_whole(save(store, 30), states)
        assert store.steps() == (20, 30)
    assert seen == {20, 30}


def _lost(
    prepared: Path, tmp_path: Path, save: Save, states: States, make: Callable[[int], CrashingDisk]
) -> list[int]:
    """The crashes, by operation, after which step 20 is gone: it was being saved once more."""
    lost = []
    for at in range(1, _operations(prepared, tmp_path / "count", save, 20) + 1):
        folder = tmp_path / str(at)
        _crashed(prepared, folder, save, 20, make(at))
        before = CheckpointStore(folder, keep=2).newest().found
        assert before is not None
        _assert_whole(before, states)
        found = _cleaned(folder).newest().found
        assert found is not None
        _assert_whole(found, states)
        if found.step != 20:
            lost.append(at)
    return lost


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_crash_while_one_is_replaced_loses_nothing(
    prepared: Path, tmp_path: Path, save: Save, states: States, forgetful: bool
) -> None:
    assert _lost(prepared, tmp_path, save, states, lambda at: CrashingDisk(at, forgetful)) == []


def test_without_fsync_of_folders_one_would_be_lost(
    prepared: Path, tmp_path: Path, save: Save, states: States
) -> None:
    """Negative control: the model of a forgetful disk sees a folder that is not synchronised."""

    class LazyDisk(CrashingDisk):
        def sync_folder(self, folder: Path) -> None:
            self.tick()

    assert _lost(prepared, tmp_path, save, states, lambda at: LazyDisk(at, forgetful=True)) != []


def test_writing_under_the_final_name_would_be_caught(
    prepared: Path, tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: half a checkpoint under a step's own name is seen as damage."""
    monkeypatch.setattr(stores, "leftover_path", lambda root, step, kind: root / step_name(step))
    _crashed(prepared, tmp_path / "run", save, 30, CrashingDisk(12, forgetful=False))
    assert CheckpointStore(tmp_path / "run", keep=2).newest().damages != ()


@pytest.mark.parametrize("stays", [False, True])
def test_a_full_disk_anywhere_fails_the_save_and_nothing_else(
    prepared: Path, tmp_path: Path, save: Save, states: States, stays: bool
) -> None:
    failures = 0
    for at in range(1, _operations(prepared, tmp_path / "count", save, 30) + 1):
        folder = tmp_path / str(at)
        copytree(prepared, folder)
        store = CheckpointStore(folder, keep=2, disk=FullDisk(at, stays))
        try:
            save(store, 30)
        except CheckpointFailedError as error:
            failures += 1
            assert "No space left on device" in str(error)  # noqa: PT017 - not every point fails
        assert _names(store) == {"latest", *map(step_name, store.steps())}
        search = store.newest()
        assert search.found is not None
        assert search.damages == ()
        _assert_whole(search.found, states)
        # Training went on; with room again, the next save succeeds.
        _assert_whole(save(CheckpointStore(folder, keep=2), 40), states)
    assert failures > 20


def _names(store: CheckpointStore) -> set[str]:
    return {path.name for path in store.root.iterdir()}
