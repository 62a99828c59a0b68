"""Following a file: everything once, in order."""

from __future__ import annotations

import io
from pathlib import Path

from ithaca.runtime.script.tail import Tail, last_text


def test_what_is_added_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    tail = Tail(path)
    assert tail.read() == b""
    with path.open("ab", buffering=0) as file:
        file.write(b"a")
        assert tail.read() == b"a"
        file.write(b"bc" * 200_000)
    read = b""
    while more := tail.read():
        read += more
    assert read == b"bc" * 200_000
    tail.close()


def test_lines_with_a_needle_are_copied_even_across_reads(tmp_path: Path) -> None:
    path, copy = tmp_path / "log", io.BytesIO()
    path.touch()
    tail = Tail(path, needles=("loss", "error"), copy=copy, prefix="[0]:")
    with path.open("ab", buffering=0) as file:
        for piece in (b"step 1 lo", b"ss 2\nnothing\nerr", b"or!\nlast loss"):
            file.write(piece)
            tail.read()
    tail.close()
    assert copy.getvalue() == b"[0]:step 1 loss 2\n[0]:error!\n[0]:last loss\n"


def test_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_text(path) == ""
    path.write_bytes(b"x" * 100_000 + b"\xff end")
    assert last_text(path).endswith("\ufffd end")
    assert len(last_text(path)) == 1 << 16
