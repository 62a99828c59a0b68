"""Who is compared: our policies, and opponents behind the same two calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.tuner.table import Table
from ithaca.tuners.arm import Arm, blocks, models, whole
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Choice, Config, Float, Space
from ithaca.tuners.trial import Failure


class Player(Protocol):
    """Asks for configurations and is told how they did."""

    def ask(self, now_s: float) -> tuple[Config, float | None] | None:
        """A configuration and its limit in seconds; None at the end."""

    def tell(self, value: float | None, now_s: float, cost_s: float) -> None:
        """The value, high is good; None if it ran out of time."""


class Ours:
    """One of our policies."""

    def __init__(self, arms: tuple[Arm, ...], settings: Settings) -> None:
        self._search = Search(settings, arms)
        self._asked: Any = None

    def ask(self, now_s: float) -> tuple[Config, float | None] | None:
        """The next trial."""
        self._asked = self._search.ask(now_s)
        if self._asked is None:
            return None
        return self._search.full(self._asked), self._asked.limit_s

    def tell(self, value: float | None, now_s: float, cost_s: float) -> None:
        """Its value."""
        failure = Failure.TIME if value is None else None
        self._search.tell(self._asked.trial, value, now_s=now_s, cost_s=cost_s, failure=failure)


class Optuna:
    """Optuna's sampler with its own defaults, on one space."""

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._fail = optuna.trial.TrialState.FAIL
        self._space = space
        self._trial: Any = None

    def ask(self, now_s: float) -> tuple[Config, float | None] | None:
        """What it suggests."""
        del now_s
        self._trial = self._study.ask()
        config: Config = {}
        for p in self._space.parameters:
            if p not in self._space.active(config):
                continue
            d = p.domain
            if isinstance(d, Choice):
                config[p.name] = self._trial.suggest_categorical(p.name, d.options)
            elif isinstance(d, Float):
                config[p.name] = self._trial.suggest_float(p.name, d.low, d.high, log=d.log)
            else:
                config[p.name] = self._trial.suggest_int(p.name, d.low, d.high, log=d.log)
        return config, None

    def tell(self, value: float | None, now_s: float, cost_s: float) -> None:
        """Its value."""
        if value is None:
            self._study.tell(self._trial, state=self._fail)
        else:
            self._study.tell(self._trial, value)


class Smac:
    """SMAC3's facade for hyperparameters: a random forest, deterministic runs."""

    def __init__(self, space: Space, seed: int, folder: str) -> None:
        from ConfigSpace import (
            Categorical,
            ConfigurationSpace,
            Integer,
        )
        from ConfigSpace import Float as CsFloat
        from smac import HyperparameterOptimizationFacade, Scenario

        cs = ConfigurationSpace(seed=seed)
        for p in space.parameters:
            d = p.domain
            if isinstance(d, Choice):
                cs.add(Categorical(p.name, list(d.options)))
            elif isinstance(d, Float):
                cs.add(CsFloat(p.name, (d.low, d.high), log=d.log))
            else:
                cs.add(Integer(p.name, (d.low, d.high), log=d.log))
        scenario = Scenario(
            cs, deterministic=True, n_trials=100_000, seed=seed, output_directory=folder
        )
        self._smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )
        self._info: Any = None

    def ask(self, now_s: float) -> tuple[Config, float | None] | None:
        """What it suggests."""
        del now_s
        self._info = self._smac.ask()
        plain = {
            key: value.item() if hasattr(value, "item") else value
            for key, value in dict(self._info.config).items()
        }
        return plain, None

    def tell(self, value: float | None, now_s: float, cost_s: float) -> None:
        """Its value, as a cost."""
        from smac.runhistory import StatusType, TrialValue

        del now_s
        status = StatusType.SUCCESS if value is not None else StatusType.TIMEOUT
        cost = -value if value is not None else 1e9
        self._smac.tell(self._info, TrialValue(cost, time=cost_s, status=status), save=False)


Make = Callable[[Table, float, int], Player]


@dataclass(frozen=True)
class Entry:
    """A player by name, and whether it can choose between models."""

    make: Make
    models: bool = True


def ours(policy: str, most: int | None = 1, **more: Any) -> Make:  # noqa: ANN401 - of the settings
    """One of our policies; ``most`` arms from halves, None for all of them."""

    def make(table: Table, budget_s: float, seed: int) -> Player:
        if isinstance(table.space, Space):
            arms = whole(table.space) if most == 1 else blocks(table.space, most)
        else:
            arms = models(dict(table.space))
        # Replay tables have numbered configurations: there is nothing to model.
        surrogate = None if isinstance(table.space, Space) else "random"
        settings = Settings(
            policy=policy, seed=seed, budget_s=budget_s, **{"surrogate": surrogate, **more}
        )
        return Ours(arms, settings)

    return make


def optuna(table: Table, budget_s: float, seed: int) -> Player:
    """Optuna's TPE as it comes."""
    del budget_s
    assert isinstance(table.space, Space)
    return Optuna(table.space, seed)


def smac(table: Table, budget_s: float, seed: int) -> Player:
    """SMAC3."""
    import tempfile

    del budget_s
    assert isinstance(table.space, Space)
    return Smac(table.space, seed, tempfile.mkdtemp(prefix="smac-"))


PLAYERS: dict[str, Entry] = {
    "boasf+": Entry(ours("boasf+")),
    "boasf+ 2 arms": Entry(ours("boasf+", 2), models=False),
    "boasf+ 4 arms": Entry(ours("boasf+", 4), models=False),
    "boasf": Entry(ours("boasf", None)),
    "boasf 4 arms": Entry(ours("boasf", 4), models=False),
    "maxucb": Entry(ours("maxucb", 4)),
    "halving": Entry(ours("halving", 4)),
    "round-robin": Entry(ours("round-robin", 4)),
    "random": Entry(ours("random")),
    "optuna tpe": Entry(optuna, models=False),
    "smac": Entry(smac, models=False),
}
