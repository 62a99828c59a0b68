"""Model selection with every configuration evaluated when it is asked for, on a clock of CPU time.

What a replay table answers from the nearest configuration that was measured is computed here. The
scale of regrets, and the mean cost that budgets are multiples of, are those of the set's table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.tuner.replay import load_set, measure, open_replay
from benchmarks.tuner.table import Table
from ithaca.tuners.arm import parted
from ithaca.tuners.learners import CLASSIFIERS
from ithaca.tuners.space import Config


def evaluated(data: tuple[Any, Any]) -> Callable[[Config], tuple[float, float]]:
    """From a configuration to its value on ``data`` and the CPU seconds of that.

    One that was asked for before has the same answer, and is not computed again.
    """
    known: dict[str, tuple[float, float]] = {}

    def look_up(config: Config) -> tuple[float, float]:
        key = json.dumps(config, sort_keys=True)
        if key not in known:
            name, own = parted(config)
            cell = measure(CLASSIFIERS[name], own, data)
            known[key] = float(cell["value"] or 0.0), float(cell["seconds"])
        return known[key]

    return look_up


def open_live(dataset: str) -> Table:
    """The set, on the scale of its replay table.

    Raises:
        ValueError: there is no such table.
    """
    scale = open_replay(dataset)
    return replace(scale, name=f"live/{dataset}", look_up=evaluated(load_set(dataset)))
