"""SMAC3's facade for hyperparameters: a random forest, deterministic runs."""

from __future__ import annotations

import tempfile
from typing import Any

from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import StatusType, TrialValue

from benchmarks.tuner.opponents.config_space import config_space
from benchmarks.tuner.opponents.exchange import Asked, Begin, plain, serve

_WORST = 1e9


class Smac:
    """One search."""

    def __init__(self, begin: Begin) -> None:
        scenario = Scenario(
            config_space(begin),
            deterministic=True,
            n_trials=100_000,
            seed=begin.seed,
            output_directory=tempfile.mkdtemp(prefix="smac-"),
        )
        self._smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )
        self._info: Any = None
        self._key = -1

    def ask(self) -> Asked | None:
        """What it suggests."""
        self._info = self._smac.ask()
        self._key += 1
        return Asked(self._key, plain(dict(self._info.config)))

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """Its value, as a cost."""
        del key
        status = StatusType.SUCCESS if value is not None else StatusType.TIMEOUT
        cost = -value if value is not None else _WORST
        self._smac.tell(self._info, TrialValue(cost, time=cost_s, status=status), save=False)


if __name__ == "__main__":
    serve(Smac)
