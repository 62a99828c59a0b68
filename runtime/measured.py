"""Layer times that workers measured, as a Profile; kept in the run folder for the next look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ithaca.planner.profile import MemoryCost, Profile
from ithaca.runtime.atomic import replace_file
from ithaca.runtime.checkpoint.identity import deciding

FILE = "profile.json"
"""The measured profile in a run folder."""

_FIELDS = {
    "F": "forward_s",
    "B": "backward_s",
    "I": "input_s",
    "W": "weight_s",
    "STEP": "step_s",
}

Times = Mapping[str, Mapping[str, float]]
"""Layer name -> op -> median seconds."""


class Timings:
    """Collects what every worker measured of its layers in one generation.

    Args:
        workers: ids of all of them.
    """

    def __init__(self, workers: tuple[int, ...]) -> None:
        self._missing = set(workers)
        self._seconds: dict[str, dict[str, list[float]]] = {}
        self._costs: list[tuple[MemoryCost, ...]] = []

    def take(self, worker: int, times: Times, costs: Iterable[tuple[float, float]] = ()) -> bool:
        """Take a worker's times and memory costs; True when this was the last one missing."""
        if worker not in self._missing:
            return False
        self._missing.remove(worker)
        if rows := tuple(MemoryCost(share, slowdown) for share, slowdown in costs):
            self._costs.append(rows)
        for layer, ops in times.items():
            for op, seconds in ops.items():
                self._seconds.setdefault(layer, {}).setdefault(op, []).append(seconds)
        return not self._missing

    def apply(self, profile: Profile, origin: str) -> Profile:
        """``profile`` with the measured times, medians over the holders of each layer.

        A layer whose backward was not tried in two parts keeps the proportion that ``profile``
        has, and one that was only split gets their sum as its whole backward.
        """
        layers = []
        for layer in profile.layers:
            found = {op: median(s) for op, s in self._seconds.get(layer.name, {}).items()}
            if "B" not in found and "I" in found:
                found["B"] = found["I"] + found.get("W", 0.0)
            if "I" not in found and "B" in found and layer.backward_s > 0:
                scale = found["B"] / layer.backward_s
                found["I"], found["W"] = layer.input_s * scale, layer.weight_s * scale
            changes: dict[str, Any] = {_FIELDS[op]: s for op, s in found.items() if op in _FIELDS}
            layers.append(replace(layer, **changes))
        return replace(
            profile,
            layers=tuple(layers),
            origin={**profile.origin, "times": origin},
            memory_costs=slowest(self._costs) or profile.memory_costs,
        )


def slowest(tables: Sequence[tuple[MemoryCost, ...]]) -> tuple[MemoryCost, ...]:
    """One table for all workers: at every share the largest slowdown, where all can go on."""
    shares = sorted({row.share for table in tables for row in table})
    profiles = [Profile((), memory_costs=table) for table in tables]
    rows = []
    for share in shares:
        found = [profile.slowdown(share) for profile in profiles]
        if None not in found:
            rows.append(MemoryCost(share, max(value for value in found if value is not None)))
    return tuple(rows)


def keep(folder: Path, config: Mapping[str, Any], profile: Profile) -> None:
    """Write ``profile`` into the run folder, with what it is valid for; ``OSError`` if not."""
    text = json.dumps({"valid_for": _validity(config), "profile": profile.to_json()})
    replace_file(folder / FILE, [text.encode()])


def recall(folder: Path, config: Mapping[str, Any], nominal: Profile) -> Profile | None:
    """The profile that a run of the same workload left in ``folder``; None if there is none.

    One that is damaged or belongs to another configuration counts as none: a profile is only
    ever a better guess.
    """
    try:
        data = json.loads((folder / FILE).read_text())
        if data["valid_for"] != _validity(config):
            return None
        profile = Profile.from_json(data["profile"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = [layer.name for layer in profile.layers] == [layer.name for layer in nominal.layers]
    return profile if same else None


def _validity(config: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        key: value
        for key, value in deciding(config).items()
        if key.startswith("workload.") or key in ("precision", "layout.micro_batches")
    }
    cluster = config["cluster"]
    return {**times, "threads": cluster["threads"], "device": cluster["device"]}
