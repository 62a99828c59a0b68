"""Which settings of a job may be switched while it is trained, and the combinations of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product

from ithaca.runtime.errors import UserError
from ithaca.tuners.arm import Arm
from ithaca.tuners.space import Choice, Space, SpaceError, Value

HARMLESS = (
    "layout",
    "layout.schedule",
    "layout.split",
    "memory.budget",
    "memory.recompute",
    "checkpoint.every",
    "integrity.state",
    "integrity.wire",
    "integrity.replay_every",
)
"""Keys that may be switched; ``layout`` is written ``2x3``: two pipelines of three stages."""
_MOST_ARMS = 64


def check_knobs(space: Space) -> None:
    """Only what changes no bit may be switched.

    Raises:
        SpaceError: another key is among the knobs, or one has no choices.
    """
    for parameter in space.parameters:
        if parameter.name not in HARMLESS:
            raise SpaceError(
                f"{parameter.name} changes what is trained, or cannot be switched; knobs are: "
                f"{', '.join(HARMLESS)}. Search for it in `space`"
            )
        if not isinstance(parameter.domain, Choice):
            raise SpaceError(f"{parameter.name}: a knob is a choice: {{choice: [...]}}")


def settings_of(space: Space) -> tuple[Arm, ...]:
    """Each combination is an arm of its own: it is measured again, not searched in."""
    options = [
        [(p.name, value) for value in p.domain.options]
        for p in space.parameters
        if isinstance(p.domain, Choice)
    ]
    combinations = [tuple(pairs) for pairs in product(*options)]
    if len(combinations) > _MOST_ARMS:
        raise SpaceError(f"{len(combinations)} combinations of knobs; at most {_MOST_ARMS}")
    empty = Space(())
    return tuple(
        Arm(" ".join(f"{key}={value}" for key, value in pairs), empty, pairs)
        for pairs in combinations
    )


def knob_words(setting: Mapping[str, Value]) -> list[str]:
    """A setting as overrides of the job."""
    found = []
    for key, value in setting.items():
        if key == "layout":
            pipelines, _, stages = str(value).partition("x")
            if not (pipelines.isdecimal() and stages.isdecimal()):
                raise UserError(f"a layout is written 2x3, pipelines x stages; got {value!r}")
            found += [f"layout.pipelines={pipelines}", f"layout.stages={stages}"]
        else:
            found.append(f"{key}={json.dumps(value)}")
    return found
