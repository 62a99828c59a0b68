"""``ithaca check job.yaml``: everything about a job before it runs; nothing is written."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ithaca.runtime.cli.commands import Commands, add_job, load_job
from ithaca.runtime.cli.table import table
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.config.units import about_size, format_seconds
from ithaca.runtime.timeouts import MEANING, Timeouts

if TYPE_CHECKING:
    from ithaca.runtime.preview import Preview


def register(commands: Commands) -> None:
    """Adds ``check`` to the command line."""
    parser = commands.add_parser(
        "check",
        help="what a job would do",
        description="Shows every value with its origin, the derived timeouts, the layers, the "
        "plan, and the memory and time it should take. Trains and writes nothing.",
    )
    add_job(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints what is known about the job; ``ConfigError`` if it cannot run."""
    loaded = load_job(arguments)
    # Only now: a mistake in the file must not wait for torch.
    from ithaca.runtime.preview import preview

    seen = preview(loaded)
    parts = [
        ("values", values(loaded)),
        (f"timeouts, all from detect = {format_seconds(loaded.job.detect)}", timeouts(loaded)),
        ("layers", layers(seen)),
        ("plan", [f"  {line}" for line in str(seen.plan).splitlines()]),
        ("memory per worker, activations and gradients at their most", memory(loaded, seen)),
        ("step", step(seen)),
    ]
    print(f"{loaded.marks.file} is a valid job")
    for title, lines in parts:
        print("\n".join(["", title, *lines]))
    return 0


def values(loaded: LoadedJob) -> list[str]:
    """Every option with its value and where that came from."""
    return table(
        [(key, loaded.values[key], origin.text) for key, origin in loaded.provenance.items()]
    )


def timeouts(loaded: LoadedJob) -> list[str]:
    """Every timeout, shortest first."""
    rows = [
        (name.removesuffix("_s"), format_seconds(seconds), MEANING[name])
        for name, seconds in Timeouts.from_detect(loaded.job.detect)
    ]
    return table(rows, right=[1])


def layers(seen: Preview) -> list[str]:
    """Every layer with its size and time, and where these numbers are from."""
    head = ("layer", "name", "parameters", "activations", "output", "forward")
    rows = [
        (
            str(number),
            layer.name,
            f"{layer.grad_bytes // 4:,}",
            about_size(layer.activation_bytes),
            about_size(layer.output_bytes),
            _milliseconds(layer.forward_s),
        )
        for number, layer in enumerate(seen.profile.layers)
    ]
    total = sum(layer.grad_bytes // 4 for layer in seen.profile.layers)
    rows.append(("", "all", f"{total:,}", "", "", ""))
    origin = [f"  {what}: {text}" for what, text in sorted(seen.profile.origin.items())]
    return [*table([head, *rows], right=[0, 2, 3, 4, 5]), *origin]


def memory(loaded: LoadedJob, seen: Preview) -> list[str]:
    """What each worker holds, and whether that is within ``layout.memory``."""
    head = ("worker", "layers", "parameters", "optimizer", "activations", "gradients", "cuts")
    rows = [
        (
            f"w{worker}",
            str(seen.plan.layers_of(worker)),
            about_size(used.parameters),
            about_size(used.state),
            about_size(used.activations),
            about_size(used.gradients),
            about_size(used.boundaries),
            about_size(used.peak),
        )
        for worker, used in seen.usage.items()
    ]
    lines = table([(*head, "peak"), *rows], right=range(2, 8))
    limit = loaded.job.layout.memory
    over = [f"w{worker}" for worker, used in seen.usage.items() if limit and used.peak > limit]
    if limit and over:
        lines.append(f"  warning: {', '.join(over)} above layout.memory, {about_size(limit)}")
    return lines


def step(seen: Preview) -> list[str]:
    """How long one step should take; nominal times are only good for comparing layouts."""
    return [
        f"  {_milliseconds(seen.timeline.step_s)} predicted, {seen.timeline.bubble:.0%} of it idle",
        f"  times are {seen.profile.origin.get('times', 'given')}",
    ]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
