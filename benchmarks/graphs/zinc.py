"""``python -m benchmarks.graphs.zinc zinc.npz FOLDER``: our model and its peers on molecules.

The molecules are ZINC-12k rebuilt. The data, the number of parameters, epochs, the schedule and the
number of validation trials are the same for every model: each tries the same three learning rates
in short trainings and keeps the one with the least validation error. The test part is looked at
once, with the parameters of the epoch that is best for validation. Rows that the result file has
are not computed again, and a training that was stopped goes on after its last whole epoch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch

from benchmarks.graphs.models.contestants import CONTESTANTS, fitted
from benchmarks.graphs.models.parts import parameters
from benchmarks.graphs.training import Course, Training
from benchmarks.recovery_study.sheet import Row, Sheet
from ithaca.workloads.csgnn.archive import read_archive

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "zinc.csv"
RATES = (1e-3, 2e-3, 4e-3)
TRIAL_EPOCHS, TRIAL_SEED = 4, 100
EPOCHS, SEEDS = 30, (0, 1, 2)
CONTROL = "gine"
CONTROL_EPOCHS = 300
# A step of PPGN takes more than twenty of ours: it is trained for fewer epochs, and ours beside it
# for as many.
SLOW, SHORT_EPOCHS = "ppgn", 15
SHORT = ("csgnn", SLOW)
PARAMETERS = 100_000


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        kind: ``trial`` of a learning rate, ``main``, ``short`` for the one that is slow and what
            stands beside it, or ``control``.
        model: which.
        seed: of parameters and order.
        epochs: all of them.
        lr: at its highest.
    """

    kind: str
    model: str
    seed: int
    epochs: int
    lr: float

    @property
    def key(self) -> tuple[str, ...]:
        """Its texts in the result file."""
        return tuple(str(value) for value in astuple(self))

    def __str__(self) -> str:
        return f"{self.kind} {self.model} seed {self.seed} lr {self.lr:g}"


KEY = tuple(field.name for field in fields(Cell))
COLUMNS = (
    *KEY, "parameters", "best_epoch", "validation", "test", "last_validation", "step_ms",
    "batch_ms", "peak_mib",
)  # fmt: skip


def chosen_rate(model: str, rows: tuple[Row, ...]) -> float | None:
    """The learning rate with the least validation error, if all trials have ended."""
    trials = [row for row in rows if row["kind"] == "trial" and row["model"] == model]
    if len(trials) < len(RATES):
        return None
    return float(min(trials, key=lambda row: float(row["validation"]))["lr"])


def order(models: list[str], seeds: tuple[int, ...]) -> Iterator[tuple[str, str, int]]:
    """(kind, model, seed) as they are run: the first seed of all with its trials before it, the
    control, the other seeds; then the short ones."""
    full = [model for model in models if model != SLOW]
    for place, seed in enumerate(seeds):
        for model in full:
            if place == 0:
                yield "trial", model, TRIAL_SEED
            yield "main", model, seed
        if place == 0 and CONTROL in models:
            yield "control", CONTROL, seed
    if SLOW in models:
        yield "trial", SLOW, TRIAL_SEED
        for seed in seeds:
            yield from (("short", model, seed) for model in SHORT if model in models)


def next_cell(models: list[str], seeds: tuple[int, ...], sheet: Sheet) -> Cell | None:
    """The first cell in order whose row is missing; None if all are there."""
    for kind, model, seed in order(models, seeds):
        if kind == "trial":
            some = [Cell(kind, model, seed, TRIAL_EPOCHS, rate) for rate in RATES]
        else:
            lr = chosen_rate(model, sheet.rows)
            assert lr is not None, "the trials of a model come first"
            epochs = {"control": CONTROL_EPOCHS, "short": SHORT_EPOCHS}.get(kind, EPOCHS)
            some = [Cell(kind, model, seed, epochs, lr)]
        missing = [cell for cell in some if cell.key not in sheet]
        if missing:
            return missing[0]
    return None


def train(cell: Cell, archive: Path, folder: Path, sheet: Sheet) -> None:
    """Trains one cell to its end and adds its row."""
    torch.set_num_threads(1)
    data = read_archive(archive)
    contestant = CONTESTANTS[cell.model]
    torch.manual_seed(cell.seed)
    model = fitted(contestant, data, PARAMETERS)
    file = folder / ("-".join(cell.key) + ".pt")
    course = Course(cell.epochs, cell.lr, cell.seed)
    training = Training(model, contestant.batches(data), data, course, file)
    test = training.run(lambda text: print(f"{cell} {text}", flush=True))
    done = training.progress
    figures = [
        parameters(model),
        done.best_epoch,
        round(min(done.validation), 5),
        round(test, 5),
        round(done.validation[-1], 5),
        round(1e3 * done.step_s / done.steps, 2),
        round(1e3 * done.batch_s / done.steps, 2),
        round(done.peak / 2**20, 1),
    ]
    sheet.add(dict(zip(COLUMNS, [*cell.key, *map(str, figures)], strict=True)))


def table(rows: tuple[Row, ...]) -> str:
    """Means over the seeds that have ended, with standard errors, and the control."""
    head = ["model", "epochs", "lr", "seeds", "test MAE", "validation MAE", "parameters",
            "step, CPU ms", "peak MiB"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for kind, model in product(("main", "short"), CONTESTANTS):
        done = [row for row in rows if row["kind"] == kind and row["model"] == model]
        if not done:
            continue
        means = {
            name: mean(float(row[name]) for row in done)
            for name in ("test", "validation", "parameters", "step_ms", "batch_ms", "peak_mib")
        }
        errors = [_error([float(row[name]) for row in done]) for name in ("test", "validation")]
        values = [
            model,
            done[0]["epochs"],
            done[0]["lr"],
            len(done),
            f"{means['test']:.4f}{errors[0]}",
            f"{means['validation']:.4f}{errors[1]}",
            round(means["parameters"]),
            f"{means['step_ms']:.0f} + {means['batch_ms']:.0f}",
            round(means["peak_mib"]),
        ]
        lines.append(f"| {' | '.join(map(str, values))} |")
    control = [row for row in rows if row["kind"] == "control"]
    text = f"{control[0]['test']} (to be 0.20 to 0.30)" if control else "has not ended"
    return "\n".join([*lines, "", f"{CONTROL}, {CONTROL_EPOCHS} epochs: test MAE {text}"])


def _error(values: list[float]) -> str:
    """The standard error of the mean."""
    return f" ± {stdev(values) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""


def main() -> int:
    """Trains what is missing, each cell in a process of its own, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graphs.zinc", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("archive", type=Path, help="of benchmarks.graphs.archives zinc")
    parser.add_argument("folder", type=Path, help="where unfinished trainings are kept")
    parser.add_argument("--models", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--cell", nargs=len(KEY), metavar=KEY, help="this one only")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    sheet = Sheet(arguments.csv, COLUMNS, KEY)
    if arguments.cell:
        kind, model, seed, epochs, lr = arguments.cell
        one = Cell(kind, model, int(seed), int(epochs), float(lr))
        train(one, arguments.archive, arguments.folder, sheet)
        return 0
    seeds = tuple(arguments.seeds)
    try:
        while not arguments.table and (cell := next_cell(arguments.models, seeds, sheet)):
            command = [sys.executable, "-m", "benchmarks.graphs.zinc", arguments.archive,
                       arguments.folder, "--csv", arguments.csv, "--cell", *cell.key]  # fmt: skip
            subprocess.run(list(map(str, command)), check=True)
            sheet = Sheet(arguments.csv, COLUMNS, KEY)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        parser.error(str(error))
    print(table(sheet.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
