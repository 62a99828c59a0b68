"""Which library of C++ a compiled module runs on."""

from __future__ import annotations

import ctypes
from types import ModuleType


def stream_of(module: ModuleType) -> int:
    """The address of ``std::cout`` for it: the same for all modules on the same library.

    Some compilers have only the archive, and a module that they link has a copy of its own: its
    messages with numbers in them then end in a crash.
    """
    assert module.__file__ is not None
    return ctypes.addressof(ctypes.c_char.in_dll(ctypes.CDLL(module.__file__), "_ZSt4cout"))
