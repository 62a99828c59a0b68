"""Our own code with one piece of text changed, for showing that an oracle sees it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest


def mutated(patch: pytest.MonkeyPatch, module: ModuleType, old: str, new: str) -> ModuleType:
    """A copy of ``module`` in which ``old``, which it has exactly once, is ``new``.

    The copy is known to the interpreter as long as ``patch`` lasts; the module is not touched.
    """
    text = Path(module.__file__ or "").read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {module.__name__}"
    copy = ModuleType(f"{module.__name__}_mutated")
    copy.__file__ = module.__file__
    patch.setitem(sys.modules, copy.__name__, copy)
    exec(compile(text.replace(old, new), copy.__name__, "exec", dont_inherit=True), copy.__dict__)
    return copy
