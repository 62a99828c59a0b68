"""A replaced file is whole: data on disk first, then the name, then the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ithaca.runtime.atomic import Disk, is_temporary, replace_file


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "latest"
    replace_file(path, [b"one"])
    replace_file(path, [b"tw", memoryview(b"o")])
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        (temporary,) = set(tmp_path.iterdir()) - {path}
        assert is_temporary(temporary)
        raise OSError(28, "No space left on device")

    path = tmp_path / "latest"
    replace_file(path, [b"one"])
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, broken())
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_data_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        size = target.stat().st_size
        calls.append("fsync folder" if target.is_dir() else f"fsync {size} bytes")
        fsync(descriptor)

    def noted_rename(old: Path, new: Path) -> Path:
        calls.append("rename")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    replace_file(tmp_path / "latest", [b"abc", b"def"])
    assert calls == ["fsync 6 bytes", "rename", "fsync folder"]


def test_a_temporary_file_is_never_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        Disk().write(path, [b"other"])
    assert path.read_bytes() == b"mine"


def test_only_our_temporary_names_are_known() -> None:
    assert is_temporary(Path("/a/.latest.0123abcd.tmp"))
    for name in (".latest.tmp", "latest.0123abcd.tmp", ".latest.0123abcd.tmp2", ".0123abcd.tmp"):
        assert not is_temporary(Path(name))


def test_a_folder_is_removed_with_its_files_and_a_link_without(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(folder)
    Disk().remove(link)
    assert folder.is_dir()
    Disk().remove(folder)
    assert list(tmp_path.iterdir()) == []
