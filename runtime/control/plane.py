"""The control plane of a run from its first to its last moment: token, server and file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ithaca.runtime.control.credentials import Credentials, new_token
from ithaca.runtime.control.server import ControlServer
from ithaca.runtime.control.surface import ControlSurface


class ControlPlane:
    """Serves ``surface`` and says so in the run folder; a context manager.

    Attributes:
        credentials: what a worker or another client needs.
    """

    def __init__(self, server: ControlServer, credentials: Credentials, run_folder: Path) -> None:
        self._server = server
        self._run_folder = run_folder
        self.credentials = credentials

    @classmethod
    def open(
        cls,
        surface: ControlSurface,
        run_folder: Path,
        *,
        pid: int,
        started: float,
        bind: str = "127.0.0.1",
        port: int = 0,
        expose: bool = False,
        token: str | None = None,
    ) -> ControlPlane:
        """Makes a new token, starts the server, then writes ``control.json``.

        Args:
            surface: the controller.
            run_folder: where ``control.json`` goes; it exists.
            pid: the process of the run that people know, the driver's.
            started: seconds since the epoch.
            bind: as :class:`ControlServer` has it, and so ``port`` and ``expose``.
            token: of an earlier control plane of this run; by default a new one.

        Raises:
            ValueError: another interface than loopback without ``expose``.
            UserError: the port is taken.
            OSError: the file cannot be written; no server is left then.
        """
        token = token or new_token()
        server = ControlServer(surface, token, bind=bind, port=port, expose=expose)
        credentials = Credentials(server.start(), token, pid, started)
        try:
            credentials.write(run_folder)
        except BaseException:
            server.stop(0.0)
            raise
        return cls(server, credentials, run_folder)

    def close(self, grace_s: float = 1.0) -> None:
        """Removes ``control.json`` and stops the server; the token opens nothing any more.

        Close the surface's event feed first, so that those who follow it see the end.
        """
        self.credentials.remove(self._run_folder)
        self._server.stop(grace_s)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
