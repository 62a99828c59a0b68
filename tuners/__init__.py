"""Tunes what a job or a model is given, within a budget and without losing work.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ithaca.tuners.ladder import Fidelity
    from ithaca.tuners.selection import ModelSelection
    from ithaca.tuners.space import Choice, Float, Int, Space
    from ithaca.tuners.tuner import Tuner

_WHERE = {
    "Choice": "ithaca.tuners.space",
    "Fidelity": "ithaca.tuners.ladder",
    "Float": "ithaca.tuners.space",
    "Int": "ithaca.tuners.space",
    "ModelSelection": "ithaca.tuners.selection",
    "Space": "ithaca.tuners.space",
    "Tuner": "ithaca.tuners.tuner",
}

__all__ = ["Choice", "Fidelity", "Float", "Int", "ModelSelection", "Space", "Tuner"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"ithaca.tuners has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)
