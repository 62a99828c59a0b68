"""The extension runs on the libraries that torch runs on, and has no copies of them."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch

import ithaca._C
from tests.helpers.cxx import stream_of

ROOT = Path(__file__).parents[3]
TALKS = "#include <iostream>\nvoid tell() { std::cout << 1; }\n"


def linked(folder: Path, *more: str) -> ModuleType:
    """What a compiler makes that has only the archive; ``more`` is for its linker."""
    source, made = folder / "talks.cpp", folder / "talks.so"
    source.write_text(TALKS)
    command = ["c++", "-shared", "-fPIC", str(source), *more, "-static-libstdc++", "-o", str(made)]
    subprocess.run(command, check=True, timeout=60)
    module = ModuleType("talks")
    module.__file__ = str(made)
    return module


def test_there_is_one_library_of_cxx() -> None:
    assert stream_of(ithaca._C) == stream_of(torch._C)


def test_a_second_one_is_noticed(tmp_path: Path) -> None:
    assert stream_of(linked(tmp_path)) != stream_of(torch._C)


def test_what_is_linked_as_the_extension_is_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["setup.py", "--name"])
    monkeypatch.setenv("PLAT", "")  # setuptools sets it
    libraries = runpy.run_path("setup.py")["library_of_cxx"]()
    assert stream_of(linked(tmp_path, *libraries)) == stream_of(torch._C)
