"""Optuna: TPE as it comes, TPE with Hyperband's pruner, ASHA.

``python -m benchmarks.tuner.opponents.optuna_search [tpe | hyperband | asha]``. A pruned trial is
told as pruned, and what is not pruned reports after every step, as Optuna's manual has it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from benchmarks.tuner.opponents.exchange import Asked, Begin, Config, full_name, plain, serve


class Optuna:
    """One study."""

    def __init__(self, begin: Begin, kind: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore")
        self._begin = begin
        self._ladder = begin.ladder if kind != "tpe" else None
        sampler: Any = optuna.samplers.TPESampler(seed=begin.seed)
        if kind == "asha":
            sampler = optuna.samplers.RandomSampler(seed=begin.seed)
        self._study = optuna.create_study(
            direction="maximize", sampler=sampler, pruner=self._pruner(kind)
        )
        self._trial: Any = None
        self._config: Config = {}
        self._step = 0

    def _pruner(self, kind: str) -> Any:  # noqa: ANN401 - Optuna's
        if kind == "tpe":
            return optuna.pruners.NopPruner()
        ladder = self._ladder
        if ladder is None:
            raise ValueError(f"{kind} needs fidelities")
        if kind == "asha":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=ladder.least, reduction_factor=ladder.factor
            )
        return optuna.pruners.HyperbandPruner(
            min_resource=ladder.least, max_resource=ladder.most, reduction_factor=ladder.factor
        )

    def ask(self) -> Asked | None:
        """A new trial, or the next step of the one that goes on."""
        if self._trial is None:
            self._trial, self._step = self._study.ask(), 0
            self._config = self._suggest()
        ladder = self._ladder
        step = None if ladder is None else self._step + ladder.least
        return Asked(self._trial.number, self._config, step and min(step, ladder.most))

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """The value behind the steps that were asked for."""
        del key, cost_s
        trial, ladder = self._trial, self._ladder
        if value is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif ladder is None:
            self._study.tell(trial, value)
        else:
            self._step = min(self._step + ladder.least, ladder.most)
            trial.report(value, self._step)
            if self._step < ladder.most and not trial.should_prune():
                return
            if self._step < ladder.most:
                self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                self._study.tell(trial, value)
        self._trial = None

    def _suggest(self) -> Config:
        models = self._begin.models
        model = ""
        config: Config = {}
        if list(models) != [""]:
            model = config["model"] = self._trial.suggest_categorical("model", list(models))
        chosen: Config = {}
        for name, spec in models[model].items():
            if all(chosen.get(other) in only for other, only in spec.get("when", {}).items()):
                full = full_name(model, name)
                chosen[name] = config[full] = self._one(full, spec)
        return plain(config)

    def _one(self, name: str, spec: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a value
        log = spec.get("log", False)
        if "choice" in spec:
            return self._trial.suggest_categorical(name, spec["choice"])
        if "float" in spec:
            return self._trial.suggest_float(name, *spec["float"], log=log)
        return self._trial.suggest_int(name, *spec["int"], log=log)


if __name__ == "__main__":
    serve(lambda begin: Optuna(begin, sys.argv[1]))
