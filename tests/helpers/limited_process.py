"""A program in a process of its own, whose memory the system counts and may limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_TIMEOUT_S = 100


def printed(program: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever JSON it prints
    """What ``program`` prints, read as JSON; its error output is shown if it fails."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": f"{root / 'src'}:{root}",
            # Large blocks go back to the system at once; else the heap's holes count.
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": "262144",
        },
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
