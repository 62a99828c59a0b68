"""The text: split by file, the same each time, and refused with a reason if there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ithaca.workloads.lm.config import DataConfig
from ithaca.workloads.lm.corpus import Corpus, Part, read_corpus


def folder(root: Path, count: int = 40) -> Path:
    """``count`` text files in two folders, each with its own name inside."""
    for i in range(count):
        path = root / ("a" if i % 2 else "b/c") / f"text{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<{i}> " + "é word" * 20)
    return root


def read(root: Path, **options: float) -> Corpus:
    """The corpus of a folder."""
    return read_corpus(DataConfig.model_validate({"folder": root, **options}))


def pieces(part: Part) -> list[bytes]:
    """The documents of a part."""
    return bytes(part.text).split(b"\0")[:-1]


def test_each_file_is_whole_in_one_part(tmp_path: Path) -> None:
    root = folder(tmp_path)
    corpus = read(root, validation_fraction=0.2)
    for part in (corpus.train, corpus.validation):
        assert pieces(part) == [(root / name).read_bytes() for name in part.names]
    names = corpus.train.names + corpus.validation.names
    assert len(names) == len(set(names)) == 40
    assert 2 <= len(corpus.validation.names) <= 16


def test_a_file_keeps_its_part_when_others_come(tmp_path: Path) -> None:
    before = set(read(folder(tmp_path, 40), validation_fraction=0.2).validation.names)
    after = set(read(folder(tmp_path, 60), validation_fraction=0.2).validation.names)
    assert before <= after


def test_two_files_are_enough(tmp_path: Path) -> None:
    for fraction in (1e-6, 1 - 1e-6):
        corpus = read(folder(tmp_path, 2), validation_fraction=fraction)
        assert len(corpus.train.names) == len(corpus.validation.names) == 1


def test_max_bytes_cuts_both_parts(tmp_path: Path) -> None:
    corpus = read(folder(tmp_path), max_bytes=500, validation_fraction=0.1)
    assert len(corpus.train.text) == 450
    assert len(corpus.validation.text) == 50
    whole = read(tmp_path, validation_fraction=0.1)
    assert bytes(whole.train.text).startswith(bytes(corpus.train.text))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = read(folder(tmp_path))
    assert read(tmp_path).fingerprint() == first.fingerprint()
    assert first.fingerprint()["train_documents"] == str(len(first.train.names))
    (tmp_path / first.validation.names[0]).write_text("another text")
    changed = read(tmp_path).fingerprint()
    assert changed["validation_sha256"] != first.fingerprint()["validation_sha256"]
    assert changed["train_sha256"] == first.fingerprint()["train_sha256"]
    (tmp_path / first.train.names[0]).write_text("another text")
    assert read(tmp_path).fingerprint()["train_sha256"] != changed["train_sha256"]


def test_what_is_not_text_is_passed_over(tmp_path: Path) -> None:
    before = read(folder(tmp_path)).fingerprint()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "zero").write_bytes(b"a\0b")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert read(tmp_path).fingerprint() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data folder .*/nowhere does not exist; give a folder"):
        read(tmp_path / "nowhere")


def test_a_file_for_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="file is not a folder"):
        read(tmp_path / "file")


def test_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no files"):
        read(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="has 1 files, but none with UTF-8 text"):
        read(tmp_path)


def test_one_file_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("text")
    with pytest.raises(ValueError, match=r"one text file only \(only.txt\).*at least two files"):
        read(tmp_path)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    folder(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"cannot read the data .*txt: Permission denied; change"):
        read(tmp_path)


@pytest.fixture(scope="module")
def python() -> Corpus:
    """What every Python has."""
    return read_corpus(DataConfig())


def test_every_python_has_enough_text(python: Corpus) -> None:
    assert len(python.train.text) > 4_000_000
    assert len(python.validation.text) > 50_000
    names = python.train.names + python.validation.names
    assert len(set(names)) == len(names)
    assert "topics/lambda" in names
    assert "lib/asyncio/base_events.py" in names
    assert not [n for n in names if {"test", "tests", "site-packages", "idlelib"} & {*n.split("/")}]
    share = len(python.validation.names) / len(names)
    assert 0.02 < share < 0.1


def test_the_python_text_repeats(python: Corpus) -> None:
    assert read_corpus(DataConfig()).fingerprint() == python.fingerprint()


def test_a_python_without_topics_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"no documentation topics.*data: \{folder: <path>\}"):
        read_corpus(DataConfig())
