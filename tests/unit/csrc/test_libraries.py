"""The extension runs on the libraries that torch runs on, and has no copies of them."""

from __future__ import annotations

import ctypes

import torch

import ithaca._C

# An object that a library of C++ has once: std::cout.
STREAM = "_ZSt4cout"


def test_there_is_one_library_of_cxx() -> None:
    """With a second one in the extension, messages with numbers in them end in a crash."""
    ours, torchs = (
        ctypes.c_char.in_dll(ctypes.CDLL(module.__file__), STREAM)
        for module in (ithaca._C, torch._C)
    )
    assert ctypes.addressof(ours) == ctypes.addressof(torchs)
