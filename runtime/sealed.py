"""What goes through a process that has no use for it, and need not import what it is made of."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sealed:
    """An object as bytes, until somebody opens it.

    A plug-in's options are of a class of its module, which imports torch: a controller that hands
    them on would wait for that when it starts, and again when it is started anew.
    """

    content: bytes

    @classmethod
    def of(cls, thing: object) -> Sealed:
        """``thing``, whose class can be imported by name wherever it is opened."""
        return cls(pickle.dumps(thing))

    def open(self) -> Any:  # noqa: ANN401 - whatever was put in
        """An equal object."""
        return pickle.loads(self.content)
