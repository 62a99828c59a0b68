"""Predicted against measured steps of GPT-1.5B on up to 32 V100: ``layouts.py DATA_FOLDER``.

DATA_FOLDER holds ``v100_profiles.json``: times of single layers, times of messages by size, and
measured steps of many layouts (JF-D/Parcae, MIT). Constants are fitted on the even rows (0, 2,
4, ...) and judged on the odd ones. Every form is fitted and shown; the one that is best on the
even rows is taken, and the simulator is run with its constants, not fitted again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ithaca.planner.calibrate import (
    Constants,
    Fit,
    Form,
    Measured,
    Rule,
    StepModel,
    errors_of,
    fit,
)
from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate

NAME = "v100_profiles.json"
MODEL = "gpt-1.5b/mb1"
STEPS = "gpt-1.5b_mb1_batch128"
BLOCKS = 48
MICRO_BATCHES = 128
GRADIENT_BYTES = 2  # fp16
MESSAGE_BYTES = 1024 * 1600 * 2  # tokens x width x fp16
OUTLIER = 0.05
RESULT = Path(__file__).parent.parent / "docs" / "results" / "layouts_v100.csv"


@dataclass(frozen=True, slots=True)
class Data:
    """The file: layers, measured steps, and seconds of a message by its bytes."""

    profile: Profile
    rows: tuple[Measured, ...]
    message_s: dict[int, float]


def read(folder: Path) -> Data:
    """The data in ``folder``; ``OSError``, ``ValueError`` or ``KeyError`` if it is not there."""
    data = json.loads((folder / NAME).read_text())
    kinds = data["layers"][MODEL]
    names = ["embed", *["block"] * BLOCKS, "head"]
    layers = tuple(_layer(f"{kind}{place}", kinds[kind]) for place, kind in enumerate(names))
    rows = tuple(
        Measured(row["pipelines"], row["stages"], row["step_ms"] / 1e3)
        for row in data["measured_steps"][STEPS]
    )
    messages = {int(size): us / 1e6 for size, us in data["p2p_us_by_bytes"].items()}
    # The layers' times are all there is: actions and additions cost nothing on top.
    profile = Profile(
        layers, action_s=0.0, add_bytes_per_s=math.inf, origin={"layers": "published"}
    )
    return Data(profile, rows, messages)


def _layer(name: str, cost: dict[str, Any]) -> Layer:
    return Layer(
        name,
        grad_bytes=GRADIENT_BYTES * cost["params"],
        forward_s=cost["forward_ms"] / 1e3,
        backward_s=cost["backward_ms"] / 1e3,
        step_s=cost["optimizer_ms"] / 1e3,
    )


def simulated_s(data: Data, model: StepModel, found: Fit, row: Measured) -> float:
    """The step of ``row`` played by the simulator with the constants of ``found``."""
    known = found.constants
    layers = [
        replace(
            layer,
            forward_s=known.compute * layer.forward_s,
            backward_s=known.compute * layer.backward_s,
        )
        for layer in data.profile.layers
    ]
    profile = replace(data.profile, layers=tuple(layers), link=Link(0.0, known.reduce_bytes_per_s))
    spans = model.split(found.rule, row.stages)
    pipelines, first = [], 0
    for place in range(row.pipelines):
        size, extra = divmod(MICRO_BATCHES, row.pipelines)
        last = first + size + (place < extra)
        stages = tuple(Stage(span, place * row.stages + depth) for depth, span in enumerate(spans))
        pipelines.append(Pipeline(stages, tuple(range(first, last))))
        first = last
    made = programs(Plan(tuple(pipelines)), profile.layers)
    return simulate(made, profile, exact=False, message_s=known.message_s).step_s


def _summary(errors: Sequence[float]) -> str:
    return f"{mean(map(abs, errors)):6.1%} {max(map(abs, errors)):6.1%}"


def _interpolated(table: dict[int, float], size: int) -> float:
    below = max(known for known in table if known <= size)
    above = min(known for known in table if known >= size)
    part = (size - below) / (above - below) if above > below else 0.0
    return table[below] + part * (table[above] - table[below])


def _tell_constants(data: Data, known: Constants) -> None:
    table = data.message_s
    largest = max(table)
    one, speed = _interpolated(table, MESSAGE_BYTES), largest / table[largest]
    print(
        f"compute factor {known.compute:.3f}; message {known.message_s * 1e3:.2f} ms "
        f"(measured alone: {one * 1e3:.2f} ms); all-reduce {known.reduce_bytes_per_s / 1e9:.2f} "
        f"GB/s (one large message: {speed / 1e9:.2f} GB/s)"
    )


def _write(path: Path, lines: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def main() -> None:
    """Fit, judge, print and write ``docs/results/layouts_v100.csv``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data_folder", type=Path, help="has v100_profiles.json")
    parser.add_argument("--result", type=Path, default=RESULT, help="CSV to write")
    arguments = parser.parse_args()
    try:
        data = read(arguments.data_folder)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{arguments.data_folder / NAME} cannot be used: {error!r}")
    model = StepModel(data.profile, MICRO_BATCHES)
    even, odd = data.rows[0::2], data.rows[1::2]
    print(f"{len(even)} rows fitted, {len(odd)} judged       even: mean max    odd: mean max")
    fits = [fit(model, even, form, rule) for form in Form for rule in Rule]
    for found in fits:
        judged = _summary(errors_of(model, found, odd))
        name = f"{found.form.value}, rest to {found.rule.value}"
        print(f"{name:36s} {_summary(found.errors)}   {judged}")
    best = min(fits, key=lambda found: found.mean_error)
    print(f"\nbest on even rows: {best.form.value}, rest to {best.rule.value}")
    _tell_constants(data, best.constants)
    closed = errors_of(model, best, data.rows)
    played = [simulated_s(data, model, best, row) / row.step_s - 1 for row in data.rows]
    name = "simulator with these constants"
    print(f"{name:36s} {_summary(played[0::2])}   {_summary(played[1::2])}")
    lines: list[Sequence[object]] = [
        ("pipelines", "stages", "rows", "measured_s", "closed_form_s", "simulated_s")
    ]
    for place, row in enumerate(data.rows):
        times = [row.step_s, (1 + closed[place]) * row.step_s, (1 + played[place]) * row.step_s]
        part = "odd" if place % 2 else "even"
        lines.append((row.pipelines, row.stages, part, *(f"{time:.4f}" for time in times)))
        mark = "  outlier" if max(abs(closed[place]), abs(played[place])) > OUTLIER else ""
        print(f"{row!s:>7s} {part:5s}{closed[place]:+7.1%}{played[place]:+7.1%}{mark}")
    _write(arguments.result, lines)


if __name__ == "__main__":
    main()
