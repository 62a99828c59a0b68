"""The interface of what proposes configurations inside an arm, and the one that draws at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ithaca.tuners.space import Config, Space


@dataclass(frozen=True, slots=True)
class Observation:
    """A configuration with its reward at a fidelity; None for a reward where it failed."""

    config: Config
    fidelity: int
    reward: float | None


class Surrogate(Protocol):
    """Three methods; a proposal is a pure function of the state, the number and what is pending.

    So nothing is lost with the process: the state is what was told, and random numbers are keyed.
    """

    def ask(self, number: int, pending: Sequence[Config]) -> Config:
        """A configuration for trial ``number``, while those in ``pending`` run."""

    def tell(self, observation: Observation) -> None:
        """Take an observation in."""

    def state(self) -> list[dict[str, Any]]:
        """All observations, as JSON values."""


Build = Callable[[Space, int, int], Surrogate]
"""Makes a surrogate from a space, a seed and the number of random configurations at the start."""


def load(surrogate: Surrogate, state: Sequence[Mapping[str, Any]]) -> None:
    """Take in what another one's ``state`` told."""
    for each in state:
        surrogate.tell(Observation(dict(each["config"]), each["fidelity"], each["reward"]))


class RandomSurrogate:
    """Uniform on every scale; learns nothing."""

    def __init__(self, space: Space, seed: int, startup: int = 0) -> None:
        self.space, self.seed = space, seed
        self._told: list[Observation] = []

    def ask(self, number: int, pending: Sequence[Config]) -> Config:
        """Depends on the seed and the number alone."""
        return self.space.sample(np.random.default_rng((self.seed, number)))

    def tell(self, observation: Observation) -> None:
        """Remember it."""
        self._told.append(observation)

    def state(self) -> list[dict[str, Any]]:
        """What was told."""
        return [to_json(each) for each in self._told]


def to_json(observation: Observation) -> dict[str, Any]:
    """JSON values that :func:`load` reads."""
    return {
        "config": dict(observation.config),
        "fidelity": observation.fidelity,
        "reward": observation.reward,
    }
