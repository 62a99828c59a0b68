"""The undisturbed run's bits, kept from one drill to the next.

The key is everything that decides them: the job, the machine, and our own code. So a change of the
code never meets the bits of the code before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ithaca.recovery.drill import Trace
from ithaca.runtime.atomic import replace_file
from ithaca.runtime.checkpoint.identity import deciding
from ithaca.runtime.cluster import package_folder


def reference_key(config: Mapping[str, Any], identity: Mapping[str, str], code: str) -> str:
    """The name of a job's bits: 32 hex digits.

    Args:
        config: the resolved job, as JSON values.
        identity: torch build, device class and the like.
        code: from :func:`code_hash`.
    """
    whole = {
        "job": deciding(config),
        "steps": config["steps"],
        "identity": dict(identity),
        "code": code,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def code_hash() -> str:
    """A hash of all source files and extensions of the package."""
    digest = hashlib.sha256()
    package = package_folder()
    for room in sorted(package.iterdir()):
        files = [room] if room.is_file() else sorted(room.resolve().rglob("*.py"))
        for path in files:
            if path.suffix in (".py", ".so"):
                digest.update(str(path.relative_to(path.anchor)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def recorded(folder: Path, key: str, run: Callable[[], Trace]) -> tuple[Trace, bool]:
    """The bits under ``key`` in ``folder``, and whether they were there before.

    Args:
        folder: of the cache; made if missing.
        key: from :func:`reference_key`.
        run: does the undisturbed run; called only if nothing is recorded.
    """
    path = folder / f"{key}.json"
    if path.exists():
        return _read(path.read_text()), True
    trace = run()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"states": dict(trace.states), "losses": dict(trace.losses)})
    replace_file(path, [text.encode()])
    return trace, False


def _read(text: str) -> Trace:
    data = json.loads(text)
    return Trace(
        {int(step): state for step, state in data["states"].items()},
        {
            int(step): (loss, auxiliary, norm, int(samples))
            for step, (loss, auxiliary, norm, samples) in data["losses"].items()
        },
    )
