"""A run in the background: a driver process of its own, which outlives the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.errors import UserError

OUTPUT = "output.log"
"""What the background driver prints, in the run folder."""

_LOOK_S = 0.2


def detach(command: Sequence[str], folder: Path, join_s: float) -> int:
    """Start ``ithaca`` with the words of ``command`` in the background; the driver's process id.

    Returns when the run serves its control plane, so that ``ithaca status`` works.

    Raises:
        UserError: the driver ended before that; with the end of what it printed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        output = (folder / OUTPUT).open("ab")
    except OSError as error:
        raise UserError(f"cannot write to the run folder {folder}: {error.strerror}") from error
    with output:
        driver = subprocess.Popen(
            [sys.executable, "-m", "ithaca", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + join_s
    while time.monotonic() < deadline:
        if _serves(folder, driver.pid):
            return driver.pid
        try:
            code = driver.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
        if code == 0:
            return driver.pid
        tail = (folder / OUTPUT).read_text(errors="replace").splitlines()[-12:]
        raise UserError("\n".join([f"the run in the background ended with {code}:", *tail]))
    driver.terminate()
    raise UserError(f"the run in the background did not start within {join_s:g} s; see {folder}")


def _serves(folder: Path, pid: int) -> bool:
    try:
        return Credentials.read(folder).pid == pid
    except UserError:
        return False
