"""Which keys of a job decide its result, and which may differ when a run is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_WHOLE_SECTIONS = ("workload", "optimizer")
_SINGLE_KEYS = ("seed", "numerics", "precision", "layout.micro_batches")


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``config`` (a resolved job, as JSON) that decide what the steps compute.

    Flat, with keys such as ``optimizer.lr``. Workers, layout, schedule of the pipeline and
    cluster are not in it: they change no bit. The number of steps is judged apart, because a
    longer run is wanted often.
    """
    flat = _flat(config, "")
    return {
        key: value
        for key, value in flat.items()
        if key in _SINGLE_KEYS or key.split(".")[0] in _WHOLE_SECTIONS
    }


def config_hash(config: Mapping[str, Any]) -> str:
    """sha256, as hex, of what :func:`deciding` finds."""
    text = json.dumps(deciding(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(value: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, member in value.items():
        if isinstance(member, Mapping) and member:
            found |= _flat(member, f"{prefix}{key}.")
        else:
            found[prefix + key] = member
    return found
