"""Finding the newest whole checkpoint among damaged ones, keeping N, and one reader at a time."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from torch import Tensor

from ithaca.runtime.atomic import Disk
from ithaca.runtime.checkpoint import reader
from ithaca.runtime.checkpoint.damage import CheckpointFailedError, DamagedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import FILE, Manifest
from ithaca.runtime.checkpoint.reader import read_layer
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.lock import RunLock

Save = Callable[[CheckpointStore, int], Found]
States = Callable[[int], dict[str, dict[str, Tensor]]]
Manifests = Callable[[int, tuple[LayerFile, ...]], Manifest]

LAYERS = ("embed", "block0", "head")


@pytest.fixture(autouse=True)
def _no_real_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on what a crash leaves; the disk's own speed is of no interest."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("os.posix_fadvise", lambda *arguments: None)


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _cuts(data: bytes) -> dict[str, int]:
    """Lengths to cut a layer's file to, one for each kind of boundary."""
    end = _header_end(data)
    return {
        "empty": 0,
        "inside the header's length": 5,
        "behind the header's length": 8,
        "inside the header": (8 + end) // 2,
        "at the header's end": end,
        "inside the data": (end + len(data)) // 2,
        "last byte missing": len(data) - 1,
    }


def test_an_empty_folder_has_none(store: CheckpointStore) -> None:
    search = store.newest()
    assert (search.found, search.damages) == (None, ())
    assert store.steps() == ()


def test_a_saved_checkpoint_is_found(store: CheckpointStore, save: Save) -> None:
    saved = save(store, 120)
    assert saved.folder == store.root / "step-00000120"
    assert store.newest().found == saved
    assert store.load(120) == saved
    assert (store.root / "latest").read_text() == "step-00000120\n"
    assert sorted(path.name for path in saved.folder.iterdir()) == [
        "block0.safetensors",
        "embed.safetensors",
        "head.safetensors",
        "manifest.json",
    ]
    assert pickle.loads(pickle.dumps(saved)) == saved


@pytest.mark.parametrize("layer", LAYERS)
def test_a_cut_file_is_named_and_the_one_before_used(
    store: CheckpointStore, save: Save, layer: str
) -> None:
    before, saved = save(store, 10), save(store, 20)
    path = saved.folder / f"{layer}.safetensors"
    data = path.read_bytes()
    for kind, length in _cuts(data).items():
        path.write_bytes(data[:length])
        search = store.newest()
        assert search.found == before, kind
        (damage,) = search.damages
        assert damage.path == path
        assert damage.problem == f"is truncated: {length} bytes, expected {len(data)}"
        with pytest.raises(DamagedError, match="truncated"):
            read_layer(saved.folder, saved.manifest.layer(layer))
    path.write_bytes(data + b"\0")
    assert "too long" in str(store.newest().damages[0])
    path.unlink()
    assert str(store.newest().damages[0]) == f"{path}: is missing"
    path.write_bytes(data)
    assert store.newest().found == saved


def test_a_cut_manifest_is_named_and_the_one_before_used(
    store: CheckpointStore, save: Save
) -> None:
    before, saved = save(store, 10), save(store, 20)
    path = saved.folder / FILE
    data = path.read_bytes()
    for length in (0, 1, 7, len(data) // 2, len(data) - 80, len(data) - 3, len(data) - 1):
        path.write_bytes(data[:length])
        search = store.newest()
        assert search.found == before
        assert [damage.path for damage in search.damages] == [path]
    path.unlink()
    search = store.newest()
    assert search.found == before
    assert str(search.damages[0]) == f"{path}: is missing"


def _undetected(store: CheckpointStore, saved: Found, layer: LayerFile, bits: list[int]) -> int:
    """How many of ``bits`` of a layer's file can flip so that it is still verified or loaded."""
    path = saved.folder / layer.file
    data = path.read_bytes()
    missed = 0
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        for use in (lambda: store.load(saved.step), lambda: read_layer(saved.folder, layer)):
            try:
                use()
                missed += 1
            except DamagedError as error:
                assert error.damage.path == path  # noqa: PT017 - only some bits may raise
    path.write_bytes(data)
    return missed


def _bits(data: bytes, count: int) -> list[int]:
    """Random bits of each part: the header's length, the header, the data."""
    random, end = Random(5), 8 * _header_end(data)
    parts = (range(64), range(64, end), range(end, 8 * len(data)))
    return [random.choice(part) for part in parts for _ in range(count)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_flipped_bit_is_never_loaded(store: CheckpointStore, save: Save, name: str) -> None:
    saved = save(store, 20)
    layer = saved.manifest.layer(name)
    data = (saved.folder / layer.file).read_bytes()
    assert _undetected(store, saved, layer, _bits(data, 40)) == 0


def test_without_the_hash_flipped_bits_would_be_loaded(
    store: CheckpointStore, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the test above notices when nothing compares hashes."""
    saved = save(store, 20)
    layer = saved.manifest.layer("head")
    data = (saved.folder / layer.file).read_bytes()
    monkeypatch.setattr(reader, "_check_hash", lambda path, sha256, layer: None)
    assert _undetected(store, saved, layer, _bits(data, 40)) >= 80


def test_a_flipped_bit_of_a_manifest_is_named(store: CheckpointStore, save: Save) -> None:
    before, saved = save(store, 10), save(store, 20)
    path = saved.folder / FILE
    data = path.read_bytes()
    for bit in Random(3).sample(range(8 * len(data)), 100):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        search = store.newest()
        assert search.found == before
        assert [damage.path for damage in search.damages] == [path]


def test_files_of_two_checkpoints_do_not_mix(store: CheckpointStore, save: Save) -> None:
    before, saved = save(store, 10), save(store, 20)
    name = "head.safetensors"
    (saved.folder / name).write_bytes((before.folder / name).read_bytes())
    search = store.newest()
    assert search.found == before
    assert "sha256 is" in str(search.damages[0])
    # Nor does a whole checkpoint under another step's name.
    before.folder.rename(store.root / "step-00000030")
    (damage, _) = store.newest().damages
    assert damage.problem == "step: it says 10, the folder's name 30"


def _resigned(saved: Found, change: Callable[[dict[str, object]], None]) -> None:
    body = json.loads((saved.folder / FILE).read_bytes())
    del body["sha256"]
    change(body)
    text = json.dumps(body, indent=1).encode().removesuffix(b"\n}")
    digest = hashlib.sha256(text).hexdigest().encode()
    (saved.folder / FILE).write_bytes(text + b',\n "sha256": "%s"\n}\n' % digest)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"file": "../../../secret.safetensors"}, "file: expected"),
        ({"name": "../../../secret", "file": "../../../secret.safetensors"}, "file: expected"),
        ({"file": "/etc/passwd"}, "file: expected"),
        ({"bytes": 2**62}, "truncated"),
        ({"tensors": {}}, "other tensors"),
    ],
)
def test_a_hostile_manifest_is_damage(
    store: CheckpointStore, save: Save, layer: dict[str, object], message: str
) -> None:
    before, saved = save(store, 10), save(store, 20)
    (store.root.parent.parent / "secret.safetensors").write_bytes(b"x")

    def change(body: dict[str, object]) -> None:
        layers = body["layers"]
        assert isinstance(layers, list)
        layers[0] |= layer

    _resigned(saved, change)
    search = store.newest()
    assert search.found == before
    assert message in str(search.damages[0])


def test_only_plain_files_are_read(store: CheckpointStore, save: Save, tmp_path: Path) -> None:
    saved = save(store, 20)
    layer, other = saved.manifest.layers[0], tmp_path / "other"
    path = saved.folder / layer.file
    path.rename(other)
    path.symlink_to(other)
    assert "is a link" in str(store.newest().damages[0])
    path.unlink()
    os.mkfifo(path)
    assert "is not a plain file" in str(store.newest().damages[0])
    path.unlink()
    path.mkdir()
    assert "is not a plain file" in str(store.newest().damages[0])
    path.rmdir()
    other.rename(path)
    manifest = saved.folder / FILE
    with manifest.open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "at most 67108864 are read" in str(store.newest().damages[0])
    manifest.unlink()
    os.mkfifo(manifest)
    assert "is not a plain file" in str(store.newest().damages[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("step-00000099\n", "names step-00000099, which is not there"),
        ("", "does not name a checkpoint: ''"),
        ("../step-00000020\n", "does not name a checkpoint"),
        ("\0\xff" * 20, "does not name a checkpoint"),
        ("x" * 5000, "has 5000 bytes"),
    ],
)
def test_a_wrong_latest_is_named_and_not_needed(
    store: CheckpointStore, save: Save, text: str, problem: str
) -> None:
    saved = save(store, 20)
    latest = store.root / "latest"
    latest.write_bytes(text.encode("latin-1"))
    search = store.newest()
    assert search.found == saved
    assert problem in str(search.damages[0])
    latest.unlink()
    assert store.newest().damages == ()
    latest.symlink_to("step-00000020")
    assert "is a link" in str(store.newest().damages[0])


def test_foreign_names_are_left_alone(store: CheckpointStore, save: Save) -> None:
    saved = save(store, 20)
    for name in ("step-20", "step-0000000000020", "step-x", "notes", "step-00000030.old"):
        (store.root / name).mkdir()
    (store.root / "step-00000040").write_text("a file")
    search = store.newest()
    assert search.found == saved
    assert [damage.path.name for damage in search.damages] == ["step-00000040"]
    with RunLock(store.root.parent) as lock:
        assert store.clean(lock) == ()
    assert (store.root / "notes").is_dir()


def test_a_missing_step_is_told_with_those_there_are(store: CheckpointStore, save: Save) -> None:
    save(store, 10)
    save(store, 20)
    with pytest.raises(DamagedError, match="is no checkpoint; there are those of: 10, 20"):
        store.load(15)


def test_the_newest_n_are_kept(store: CheckpointStore, save: Save) -> None:
    for step in (10, 20, 30, 40):
        save(store, step)
    assert store.steps() == (30, 40)


def test_damaged_ones_do_not_count_and_later_ones_stay(store: CheckpointStore, save: Save) -> None:
    for step in (10, 20):
        save(store, step)
    other = CheckpointStore(store.root.parent, keep=9)
    broken, ahead = save(other, 30), save(other, 60)
    (broken.folder / FILE).write_bytes(b"")
    (ahead.folder / FILE).write_bytes(b"")
    found = store.newest().found
    assert found is not None
    assert found.step == 20
    save(store, 40)
    assert store.steps() == (20, 30, 40, 60)
    save(store, 50)
    assert store.steps() == (40, 50, 60)
    save(store, 60)
    found = store.newest().found
    assert found is not None
    assert found.step == 60
    assert store.steps() == (50, 60)


def test_a_store_that_did_not_search_is_told(store: CheckpointStore, save: Save) -> None:
    for step in (10, 20):
        save(store, step)
    other = CheckpointStore(store.root.parent, keep=2)
    other.distrust_after(10)
    save(other, 25)
    assert other.steps() == (10, 20, 25)
    save(other, 30)
    assert other.steps() == (25, 30)


def test_what_is_discarded_is_never_found_again(store: CheckpointStore, save: Save) -> None:
    save(store, 10)
    later = save(store, 30)
    with store.reading(later):
        store.discard_after(10)
        # One that is being read stays, and yet is not found.
        assert store.steps() == (10, 30)
        found = store.newest().found
        assert found is not None
        assert found.step == 10
    again = save(store, 30)
    assert store.newest().found == again
    store.discard_after(0)
    assert store.steps() == ()
    assert store.newest().found is None


def test_what_is_read_is_not_pruned(store: CheckpointStore, save: Save) -> None:
    first = save(store, 10)
    with store.reading(first):
        for step in (20, 30, 40):
            save(store, step)
        assert store.steps() == (10, 30, 40)
        for layer in first.manifest.layers:
            read_layer(first.folder, layer)
    save(store, 50)
    assert store.steps() == (40, 50)
    with pytest.raises(DamagedError, match="is missing"), store.reading(first):
        pass


def test_what_is_read_is_not_replaced(store: CheckpointStore, save: Save) -> None:
    saved = save(store, 10)
    with store.reading(saved):
        with pytest.raises(CheckpointFailedError, match="is being read"):
            save(store, 10)
        for layer in saved.manifest.layers:
            read_layer(saved.folder, layer)
    assert save(store, 10) == store.newest().found
    assert sorted(path.name for path in store.root.iterdir()) == ["latest", "step-00000010"]


def test_a_file_that_changed_since_its_report_is_not_committed(
    store: CheckpointStore, save: Save, states: States, manifest: Manifests
) -> None:
    before = save(store, 10)
    folder = store.begin(20)
    files = [write_layer(folder, name, state, 20) for name, state in states(20).items()]
    data = bytearray((folder / files[1].file).read_bytes())
    data[-1] ^= 1
    (folder / files[1].file).write_bytes(data)
    with pytest.raises(
        CheckpointFailedError, match=r"step 20 failed: .*block0\.safetensors: sha256"
    ):
        store.commit(manifest(20, tuple(files)))
    assert not folder.exists()
    assert store.newest().found == before
    assert store.newest().damages == ()
    with pytest.raises(ValueError, match="no checkpoint of step 20 was begun"):
        store.commit(manifest(20, tuple(files)))


def test_a_late_writer_cannot_reach_the_next_attempt(
    store: CheckpointStore, states: States
) -> None:
    first = store.begin(20)
    second = store.begin(20)
    assert first != second
    with pytest.raises(FileNotFoundError):
        write_layer(first, "head", states(20)["head"], 20)
    assert list(second.iterdir()) == []
    store.abandon(20)
    store.abandon(20)
    assert list(store.root.iterdir()) == []


def test_leftovers_are_cleaned_by_the_owner_only(store: CheckpointStore, save: Save) -> None:
    save(store, 10)
    partial = store.begin(20)
    (partial / ".head.safetensors.01234567.tmp").write_bytes(b"half")
    temporary = store.root / ".latest.01234567.tmp"
    temporary.write_bytes(b"")
    removed = store.root / "step-00000005.removed-89abcdef"
    removed.mkdir()
    fresh = CheckpointStore(store.root.parent, keep=2)
    lock = RunLock(store.root.parent)
    with pytest.raises(ValueError, match="only the run that holds the lock"):
        fresh.clean(lock)
    refused = pytest.raises(ValueError, match="only the run that holds the lock")
    with RunLock(store.root.parent / "elsewhere") as elsewhere, refused:
        fresh.clean(elsewhere)
    with lock:
        assert set(fresh.clean(lock)) == {partial, temporary, removed}
    assert sorted(path.name for path in store.root.iterdir()) == ["latest", "step-00000010"]


def test_what_cannot_be_removed_is_logged_and_left(
    tmp_path: Path, save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    class StickyDisk(Disk):
        def remove(self, path: Path) -> None:
            raise PermissionError(13, "Permission denied")

    store = CheckpointStore(tmp_path, keep=1, disk=StickyDisk())
    save(store, 10)
    assert save(store, 20) == store.newest().found
    assert "cannot remove" in caplog.text
    assert store.steps() == (20,)
    with RunLock(tmp_path) as lock:
        assert len(CheckpointStore(tmp_path, keep=1).clean(lock)) == 1


def test_at_least_one_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CheckpointStore(tmp_path, keep=0)
