"""Fidelities: how far trials are trained before it is decided which of them go on.

Asynchronous successive halving (Li et al., arXiv 1810.05934): a trial that is among the best
1/factor of all that reached its rung goes on to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ithaca.tuners.trial import State, Trial


@dataclass(frozen=True, slots=True)
class Fidelity:
    """From ``least`` to ``most`` steps (epochs, rows), each rung ``factor`` times the one below.

    Raises:
        ValueError: there is no such ladder.
    """

    least: int
    most: int
    factor: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                f"a fidelity goes from 1 upwards, least <= most; got {self.least} to {self.most}"
            )
        if self.factor < 2:
            raise ValueError(f"the factor between rungs is 2 or more; got {self.factor}")

    def rungs(self) -> tuple[int, ...]:
        """All rungs, the highest is ``most``."""
        found = [self.most]
        while found[-1] // self.factor >= self.least:
            found.append(found[-1] // self.factor)
        return tuple(reversed(found))

    def after(self, fidelity: int) -> int:
        """The next rung above ``fidelity``; ``most`` on the highest."""
        return next((rung for rung in self.rungs() if rung > fidelity), self.most)


def leads(values: Iterable[float], value: float, factor: int) -> bool:
    """Whether ``value`` is among the best 1/factor of ``values``, in which it stands itself."""
    better = count = 0
    for other in values:
        count += 1
        better += other > value
    return better < count // factor


def promotable(
    trials: Iterable[Trial],
    among: Iterable[Trial],
    fidelity: Fidelity,
    reward: Callable[[float], float],
) -> Trial | None:
    """The paused trial that goes on; None if none does.

    Args:
        trials: that may go on.
        among: with which they are compared: whatever reached the same rung.
        fidelity: the ladder.
        reward: from a value to what is to be high.
    """
    paused = [trial for trial in trials if trial.state is State.PAUSED]
    everybody = list(among)
    for rung in reversed(fidelity.rungs()[:-1]):
        here = [reward(value) for trial in everybody for at, value in trial.curve if at == rung]
        waiting = sorted(
            (trial for trial in paused if trial.fidelity == rung),
            key=lambda trial: (-reward(trial.curve[-1][1]), trial.number),
        )
        if waiting and leads(here, reward(waiting[0].curve[-1][1]), fidelity.factor):
            return waiting[0]
    return None
