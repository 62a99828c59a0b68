"""Whether a job may go on from a checkpoint and end as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ithaca.runtime.checkpoint.identity import deciding
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.errors import UserError

_ABSENT = "(not set)"


def check_resume(
    manifest: Manifest,
    config: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    identity: Mapping[str, str],
) -> tuple[str, ...]:
    """Compares the checkpoint's job with the one that is to go on; warnings for the user.

    Free to differ: workers, layout, the pipeline's schedule, cluster, intervals, folders, and
    the number of steps. A longer job whose learning rate falls until the last step gets a
    warning: the steps behind it were taken at the old job's rates. So does a machine whose
    ``identity`` (torch build, device, threads) differs, unless ``numerics`` is ``fast``.

    Args:
        manifest: of the checkpoint.
        config: the resolved job, as JSON values (``model_dump(mode="json")``).
        fingerprint: the workload's, now.
        identity: of the machine, now.

    Raises:
        UserError: lists every value that decides the result and differs, or says that the
            checkpoint is past the job's last step.
    """
    old, new = deciding(manifest.config), deciding(json.loads(json.dumps(dict(config))))
    old |= {f"data: {key}": value for key, value in manifest.fingerprint.items()}
    new |= {f"data: {key}": value for key, value in fingerprint.items()}
    differing = _differences(old, new)
    if differing:
        raise UserError(
            f"the checkpoint of step {manifest.step} belongs to another job: the result would "
            "not be that of a job that never stopped.\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nSet these back to resume, or give the changed job a folder of its own."
        )
    return (*_steps_warnings(manifest, config), *_identity_warnings(manifest, config, identity))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: was {_show(old, key)}, now {_show(new, key)}"
        for key in sorted({*old, *new})
        if key not in old or key not in new or old[key] != new[key]
    ]


def _steps_warnings(manifest: Manifest, config: Mapping[str, Any]) -> list[str]:
    before, steps = manifest.config.get("steps"), config["steps"]
    if steps < manifest.step:
        raise UserError(
            f"the checkpoint has {manifest.step} steps, the job only {steps}: nothing is left to "
            f"train. Give steps={manifest.step} or more, or a folder of its own."
        )
    schedule = config.get("optimizer", {}).get("schedule")
    if steps == before or schedule == "constant":
        return []
    return [
        f"steps was {before} and is now {steps}; with optimizer.schedule={schedule} the learning "
        f"rate depends on it, and the first {manifest.step} steps were taken at the old rates: "
        f"the result is not that of a job of {steps} steps from the start"
    ]


def _identity_warnings(
    manifest: Manifest, config: Mapping[str, Any], identity: Mapping[str, str]
) -> list[str]:
    if config.get("numerics") == "fast":
        return []
    return [
        f"{line}; bits may differ from those of a job that never stopped"
        for line in _differences(manifest.identity, identity)
    ]


def _show(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return _ABSENT
    shown = json.dumps(values[key])
    return shown if len(shown) <= 80 else shown[:77] + "..."
