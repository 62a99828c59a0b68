"""The training job: layers, micro-batches and memory, calibrated on measured steps.

The constants (compute, message, all-reduce) are fitted to the even measured rows of GPT-1.5B as in
``benchmarks/layouts.py``, in its best form: a message keeps both its ends from computing. A Profile
says this as an overhead of every action: the 4 messages of an inner stage and micro-batch are
spread over its 6 actions. This one profile is the truth of the study, and what every tuned policy
sees.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.recovery_study import cluster
from ithaca.planner.calibrate import Form, Measured, Rule, StepModel, fit
from ithaca.planner.layer import Layer
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Link, Profile

NAME = "v100_profiles.json"
FITTED = "gpt-1.5b/mb1"
STEPS = "gpt-1.5b_mb1_batch128"
MIB = 2**20
SEQUENCE = 1024
MESSAGES, ACTIONS = 4, 6
"""Of an inner stage for one micro-batch: RECV F SEND, RECV B SEND."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the data folder does not say about a model: its blocks, width and batch."""

    key: str
    blocks: int
    width: int
    micro_batches: int


MODELS = {
    "gpt-1.5b": Model("gpt-1.5b/mb1", 48, 1600, 128),
    "gpt-2.7b": Model("gpt-2.7b/mb1", 32, 2560, 128),
    "gpt-6.7b": Model("gpt-6.7b/mb1", 32, 4096, 64),
}


@dataclass(frozen=True)
class Job:
    """One model on the cluster.

    Attributes:
        name: of the model.
        profile: calibrated; its link carries the all-reduce only.
        micro_batches: of a step.
        limit_bytes: per card, for what ``planner.memory`` counts.
        activations: bytes per layer and micro-batch when nothing is recomputed.
        rows: measured steps, to check the memory model against.
    """

    name: str
    profile: Profile
    micro_batches: int
    limit_bytes: int
    activations: tuple[int, ...]
    rows: tuple[Measured, ...] = ()

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.profile.layers)

    @cached_property
    def keeping(self) -> Job:
        """The same job without recomputation, whose backward can be split in two.

        The weight half needs the activations, so they are kept from forward to backward. Times
        stay those of the measured steps.
        """
        layers = (
            replace(layer, activation_bytes=size, split=True)
            for layer, size in zip(self.profile.layers, self.activations, strict=True)
        )
        return replace(self, profile=replace(self.profile, layers=tuple(layers)))

    def of(self, schedule: Schedule) -> Job:
        """The job as it is run under ``schedule``: recomputing, unless the backward is split."""
        return self.keeping if schedule is Schedule.ONE_F_ONE_B_SPLIT else self


def read(folder: Path, name: str = "gpt-1.5b") -> Job:
    """The job ``name`` from ``folder``/v100_profiles.json.

    Raises:
        OSError, ValueError, KeyError: the file is not there or has another form.
    """
    return made(json.loads((folder / NAME).read_text()), name)


def made(data: dict[str, Any], name: str) -> Job:
    """The job ``name`` from the content of the file."""
    rows = tuple(
        Measured(row["pipelines"], row["stages"], row["step_ms"] / 1e3)
        for row in data["measured_steps"][STEPS]
    )
    fitted = MODELS["gpt-1.5b"]
    layers = _layers(data["layers"][FITTED], fitted, 1.0)
    published = Profile(layers, action_s=0.0, add_bytes_per_s=math.inf)
    steps = StepModel(published, fitted.micro_batches)
    blocking = fit(steps, rows[0::2], Form.BLOCKING, Rule.TIME).constants
    model = MODELS[name]
    costs = data["layers"][model.key]
    activations = [int(costs[kind]["activation_mib"] * MIB) for kind in _kinds(model)]
    message_s = blocking.message_s * model.width / fitted.width
    profile = Profile(
        tuple(replace(x, output_bytes=0) for x in _layers(costs, model, blocking.compute)),
        Link(0.0, blocking.reduce_bytes_per_s),
        action_s=message_s * MESSAGES / ACTIONS,
        add_bytes_per_s=math.inf,
        origin={"layers": "published, calibrated on measured steps", "link": "calibrated"},
    )
    return Job(
        name,
        profile,
        model.micro_batches,
        int(cluster.CARD_BYTES - cluster.RESERVED_BYTES - max(activations)),
        tuple(activations),
        rows if name == "gpt-1.5b" else (),
    )


def _message_bytes(model: Model) -> int:
    return SEQUENCE * model.width * 2


def _kinds(model: Model) -> list[str]:
    return ["embed", *["block"] * model.blocks, "head"]


def _layers(costs: dict[str, Any], model: Model, compute: float) -> tuple[Layer, ...]:
    """Layers that recompute their activations: only a layer's input is kept until its backward."""
    return tuple(
        Layer(
            f"{kind}{place}",
            param_bytes=cluster.PARAM_BYTES * costs[kind]["params"],
            grad_bytes=cluster.GRADIENT_BYTES * costs[kind]["params"],
            state_bytes=cluster.STATE_BYTES * costs[kind]["params"],
            activation_bytes=_message_bytes(model),
            output_bytes=_message_bytes(model),
            forward_s=compute * costs[kind]["forward_ms"] / 1e3,
            backward_s=compute * costs[kind]["backward_ms"] / 1e3,
            step_s=costs[kind]["optimizer_ms"] / 1e3,
        )
        for place, kind in enumerate(_kinds(model))
    )
