"""Optuna's tree-structured Parzen estimator behind the surrogate's interface.

Observations of several fidelities are not mixed: the model is made from those at the highest
fidelity that has enough of them, as BOHB does (Falkner et al., arXiv 1807.01774).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ithaca.runtime.errors import UserError
from ithaca.tuners.space import Choice, Config, Domain, Float, Space
from ithaca.tuners.surrogates.surrogate import Observation, to_json

if TYPE_CHECKING:
    import optuna


class TpeSurrogate:
    """Proposes with Optuna's TPE; imports Optuna when it is first needed.

    Args:
        space: what to search.
        seed: of all draws.
        startup: configurations that are drawn at random before the model is used.
    """

    def __init__(self, space: Space, seed: int, startup: int = 10) -> None:
        self.space, self.seed, self.startup = space, seed, startup
        self._told: list[Observation] = []
        self._study: tuple[int, int, optuna.Study] | None = None

    def ask(self, number: int, pending: Sequence[Config]) -> Config:
        """A configuration of the space: random ones first, then the model's."""
        if len(self._told) + len(pending) < self.startup or not self.space.parameters:
            return self.space.sample(np.random.default_rng((self.seed, number)))
        study = self._study_with(pending)
        study.sampler = _sampler(int(np.random.default_rng((self.seed, number)).integers(2**31)))
        trial = study.ask()
        config: Config = {}
        for parameter in self.space.parameters:
            if parameter in self.space.active(config):
                config[parameter.name] = _suggest(trial, parameter.name, parameter.domain)
        # The proposal may never be told: the study must not count it.
        self._study = None if pending else self._without(study, trial)
        return config

    def tell(self, observation: Observation) -> None:
        """Take an observation in; a failure counts like the worst reward at its fidelity."""
        self._told.append(observation)

    def state(self) -> list[dict[str, Any]]:
        """What was told."""
        return [to_json(each) for each in self._told]

    def _fidelity(self) -> int:
        """The highest one with enough observations; the one with most if none has."""
        counts: dict[int, int] = {}
        for each in self._told:
            counts[each.fidelity] = counts.get(each.fidelity, 0) + 1
        enough = [fidelity for fidelity, count in counts.items() if count >= self.startup]
        return max(enough) if enough else max(counts, key=lambda f: (counts[f], f), default=0)

    def _study_with(self, pending: Sequence[Config]) -> optuna.Study:
        """A study of the observations at one fidelity, and of those that run."""
        optuna = load_optuna()
        fidelity = self._fidelity()
        told = [each for each in self._told if each.fidelity == fidelity]
        done, study = 0, None
        if self._study is not None and self._study[0] == fidelity and not pending:
            _, done, study = self._study
        if study is None:
            study = optuna.create_study(direction="maximize")
        worst = min((e.reward for e in told if e.reward is not None), default=0.0)
        for each in told[done:]:
            value = worst if each.reward is None else each.reward
            study.add_trial(self._trial(each.config, optuna.trial.TrialState.COMPLETE, value))
        for config in pending:
            study.add_trial(self._trial(config, optuna.trial.TrialState.RUNNING, None))
        if not pending:
            self._study = (fidelity, len(told), study)
        return study

    def _without(
        self, study: optuna.Study, trial: optuna.Trial
    ) -> tuple[int, int, optuna.Study] | None:
        study.tell(trial, state=load_optuna().trial.TrialState.FAIL)
        return self._study

    def _trial(
        self, config: Config, state: optuna.trial.TrialState, value: float | None
    ) -> optuna.trial.FrozenTrial:
        made: optuna.trial.FrozenTrial = load_optuna().trial.create_trial(
            state=state,
            value=value,
            params=dict(config),
            distributions={
                p.name: distribution(p.domain) for p in self.space.parameters if p.name in config
            },
        )
        return made


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Optuna's name for ``domain``."""
    kinds = load_optuna().distributions
    made: optuna.distributions.BaseDistribution
    if isinstance(domain, Choice):
        made = kinds.CategoricalDistribution(domain.options)
    elif isinstance(domain, Float):
        made = kinds.FloatDistribution(domain.low, domain.high, log=domain.log)
    else:
        made = kinds.IntDistribution(domain.low, domain.high, log=domain.log)
    return made


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:  # noqa: ANN401 - Optuna's
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.options)
    if isinstance(domain, Float):
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return trial.suggest_int(name, domain.low, domain.high, log=domain.log)


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    library = load_optuna()
    made: optuna.samplers.TPESampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        made = library.samplers.TPESampler(
            seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
        )
    return made


def load_optuna() -> ModuleType:
    """Optuna, quiet; ``UserError`` if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "the surrogate 'tpe' is Optuna's, and Optuna is not installed. Install it with "
            "pip install 'ithaca[tune]', or search with surrogate 'random'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
