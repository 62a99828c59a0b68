"""The interface of all policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ithaca.tuners.book import Book

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Pull:
    """The arm whose turn it is, and the longest time for it; infinite for no limit."""

    arm: str
    limit_s: float = float("inf")


class Policy(ABC, Generic[S]):
    """Chooses arms: a pure function of its state, the book and the time.

    Attributes:
        name: in files and on the command line.
        guided: whether configurations inside an arm come from a surrogate; else at random.
        patient: whether a trial may cost any multiple of what others do.
        extends: whether the budget may become another one while the search goes on.
    """

    name: ClassVar[str]
    guided: ClassVar[bool] = True
    patient: ClassVar[bool] = True
    extends: ClassVar[bool] = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def begin(self, arms: tuple[str, ...]) -> S:
        """The state before the first pull: frozen, JSON values inside."""

    @abstractmethod
    def next(self, state: S, book: Book, now_s: float) -> tuple[Pull, S] | None:
        """The next pull and the state behind it; None if nothing is to run now.

        A state that is not followed by a pull is forgotten, so None must not depend on it.
        """

    @abstractmethod
    def parse(self, data: Mapping[str, Any]) -> S:
        """A state from the JSON values of its fields."""

    def startup(self, arms: int) -> int:
        """Random configurations in each of so many arms before its surrogate is asked."""
        return max(10 // arms, 4)

    def alive(self, state: S, arms: tuple[str, ...]) -> tuple[str, ...]:
        """Arms that may still be chosen."""
        del state
        return arms

    def random(self, *key: int) -> np.random.Generator:
        """A generator that depends on the seed and the key alone."""
        return np.random.default_rng((self.seed, *key))


def tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a state, as JSON had them, with lists made tuples again."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
