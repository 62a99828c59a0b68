"""A small data folder for the study of recovery: published facts, and traces of a few lines.

Layer times of GPT-1.5B on V100 and traces in the published forms (JF-D/Parcae and
uclasystem/bamboo, MIT); measured steps are those of ``docs/results/layouts_v100.csv``.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from benchmarks.recovery_study.job import Job
from benchmarks.recovery_study.shapes import Shapes, partitions
from ithaca.planner.layer import Layer
from ithaca.planner.plan import Plan
from ithaca.planner.profile import Link, Profile

MEASURED = Path(__file__).parents[2] / "docs" / "results" / "layouts_v100.csv"
KINDS = {
    "embed": (0.752, 0.798, 5.655, 8.984, 82_124_800),
    "block": (6.51, 13.448, 2.117, 268.969, 30_740_800),
    "head": (11.238, 23.762, 5.656, 177.758, 82_128_000),
}
NAMES = ("forward_ms", "backward_ms", "optimizer_ms", "activation_mib", "params")
BAMBOO = """\
0,add,node1
0,add,node2
0,add,node3
60000,remove,node2
120000,add,node4
180000,add,node5
"""
EAST = "2021-12-10, 13:00:00, 3\n2021-12-10, 13:01:00, 2\n2021-12-10, 13:02:00, 9\n"
PARCAE = (
    '[0, "add", {"nodes": ["node-0", "node-1"], "duration": 60000}]',
    '[60000, "no-op", {"nodes": [], "duration": 60000}]',
    '[120000, "remove", {"nodes": ["node-1"], "duration": 60000}]',
)


def content() -> dict[str, Any]:
    """What ``v100_profiles.json`` holds, as far as the study reads it."""
    with MEASURED.open(newline="") as file:
        steps = [
            {
                "pipelines": int(row["pipelines"]),
                "stages": int(row["stages"]),
                "step_ms": 1e3 * float(row["measured_s"]),
            }
            for row in csv.DictReader(file)
        ]
    layers = {kind: dict(zip(NAMES, values, strict=True)) for kind, values in KINDS.items()}
    return {
        "layers": {"gpt-1.5b/mb1": layers},
        "measured_steps": {"gpt-1.5b_mb1_batch128": steps},
    }


def write(folder: Path) -> Path:
    """A data folder as the study expects it."""
    (folder / "v100_profiles.json").write_text(json.dumps(content()))
    for part in ("bamboo", "parcae"):
        (folder / "traces" / part).mkdir(parents=True)
    (folder / "traces" / "bamboo" / "p3-trace.csv").write_text(BAMBOO)
    (folder / "traces" / "bamboo" / "v100x1-east1c.txt").write_text(EAST)
    for kind in ("hh", "hl", "lh", "ll"):
        path = folder / "traces" / "parcae" / f"gpt-1.5b_{kind}_1_2.txt"
        path.write_text("\n".join(PARCAE) + "\n")
    return folder


def small_job() -> Job:
    """Twelve layers and eight micro-batches: steps of which are simulated in milliseconds."""
    layers = tuple(
        Layer(
            f"layer{place}",
            param_bytes=2 * 10**6,
            grad_bytes=2 * 10**6,
            state_bytes=12 * 10**6,
            activation_bytes=10**5,
            forward_s=0.1,
            backward_s=0.2,
            step_s=0.01,
        )
        for place in range(12)
    )
    profile = Profile(layers, Link(0.0, 10**7), action_s=0.01, add_bytes_per_s=float("inf"))
    return Job("small", profile, 8, 10**9, (10**6,) * 12)


def layouts(job: Job, most: int) -> dict[int, Plan | None]:
    """A good layout for every number of cards up to ``most``, without the planner's search."""
    shapes = Shapes(job)
    return {
        cards: shapes.fastest(
            partitions(min(cards, job.num_layers * 2), job.num_layers),
            shapes.calibrated_s,
            tail=True,
        )
        for cards in range(most + 1)
    }
