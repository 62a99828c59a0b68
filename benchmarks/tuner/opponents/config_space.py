"""A space as ConfigSpace has it, which SMAC and BOHB search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    Float,
    InCondition,
    Integer,
)

from benchmarks.tuner.opponents.exchange import Begin, full_name


def config_space(begin: Begin) -> ConfigurationSpace:
    """All models in one space, with conditions."""
    space = ConfigurationSpace(seed=begin.seed)
    models = begin.models
    model = None
    if list(models) != [""]:
        model = Categorical("model", list(models))
        space.add(model)
    for name, parameters in models.items():
        made: dict[str, Any] = {}
        for own, spec in parameters.items():
            made[own] = _parameter(full_name(name, own), spec)
            space.add(made[own])
            conditions = [
                InCondition(made[own], made[other], list(only))
                for other, only in spec.get("when", {}).items()
            ]
            if model is not None:
                conditions.append(InCondition(made[own], model, [name]))
            if conditions:
                space.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return space


def _parameter(name: str, spec: Mapping[str, Any]) -> Any:  # noqa: ANN401 - ConfigSpace's
    log = spec.get("log", False)
    if "choice" in spec:
        return Categorical(name, list(spec["choice"]))
    if "float" in spec:
        low, high = spec["float"]
        return Float(name, (low, high), log=log)
    low, high = spec["int"]
    return Integer(name, (low, high), log=log)
