"""Where a run can be reached and the secret that opens it: ``control.json`` in its folder."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ithaca.runtime.control.trouble import ControlError, Trouble

FILE = "control.json"
_MAX_BYTES = 1 << 16


def new_token() -> str:
    """A secret for one run: 256 bits from the operating system, as URL-safe text."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs.

    Attributes:
        address: ``host:port``.
        token: the run's secret; never shown.
        pid: the controller's process.
        started: seconds since the epoch.
    """

    address: str
    token: str = field(repr=False)
    pid: int
    started: float

    @property
    def port(self) -> int:
        """Of the address."""
        return int(self.address.rpartition(":")[2])

    def write(self, run_folder: Path) -> Path:
        """Writes ``control.json``, readable by its owner alone, whole or not at all."""
        path = run_folder / FILE
        temporary = run_folder / f".{FILE}.{secrets.token_hex(4)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600)
                json.dump(asdict(self), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path

    @classmethod
    def read(cls, run_folder: Path) -> Credentials:
        """What ``control.json`` in ``run_folder`` says.

        Raises:
            ControlError: there is no such run, it is not running, the file is not ours to read,
                or it is damaged.
        """
        path = run_folder / FILE
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            if not run_folder.is_dir():
                raise _absent(f"there is no run folder {run_folder}") from None
            raise _absent(
                f"the run in {run_folder} is not running: it has no {FILE}. "
                f"If this is a run folder, the run has ended; its events are in the folder"
            ) from None
        except OSError as error:
            raise _absent(f"{path} cannot be read: {error.strerror}") from None
        try:
            return cls._parse(text)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _absent(f"{path} is damaged ({error}); remove it if no run is going") from None

    @classmethod
    def _parse(cls, text: bytes) -> Credentials:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError("not a JSON object")
        address, token = values["address"], values["token"]
        pid, started = values["pid"], values["started"]
        if not (isinstance(address, str) and address and isinstance(token, str) and token):
            raise TypeError("address and token are texts")
        if not (isinstance(pid, int) and isinstance(started, int | float)):
            raise TypeError("pid and started are numbers")
        return cls(address, token, pid, float(started))

    def remove(self, run_folder: Path) -> None:
        """Removes ``control.json``, unless another run has put its own there meanwhile."""
        try:
            current = Credentials.read(run_folder)
        except ControlError:
            return
        if secrets.compare_digest(current.token.encode(), self.token.encode()):
            (run_folder / FILE).unlink(missing_ok=True)


def _absent(message: str) -> ControlError:
    return ControlError(Trouble.ABSENT, message)
