"""The Ray actor of a node: makes log folders, starts the node's ranks, tells what they do."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ithaca.runtime import environment
from ithaca.runtime.cluster import interface_address
from ithaca.runtime.script.contract import (
    Meeting,
    Place,
    arguments,
    line_prefix,
    rank_environment,
)
from ithaca.runtime.script.ranks import (
    ERROR_FILE,
    Observation,
    Output,
    RankOrder,
    RankProcesses,
    Warden,
)
from ithaca.runtime.script.spec import Form, LaunchError, LaunchSpec
from ithaca.runtime.script.streams import Stream

_PORTS = range(20000, 30000)
_PORT_TRIALS = 200
_RUNNER = Path(__file__).with_name("run_path.py")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the group: its number from 0, where it meets, the log folder of the run."""

    number: int
    meeting: Meeting
    logs: Path

    @property
    def folder(self) -> Path:
        """Where its ranks' log folders lie."""
        return self.logs / f"attempt_{self.number}"


class Agent:
    """Runs the ranks of one node; made into an actor whose calls run in its main thread."""

    def __init__(self, spec: LaunchSpec, devices_from_ray: bool) -> None:
        """``devices_from_ray``: the GPUs are those that Ray assigned to this actor."""
        self._spec = _with_assigned_devices(spec) if devices_from_ray else spec
        self._warden = Warden()
        self._ranks: RankProcesses | None = None

    def check(self) -> None:
        """Whether the launch can start here.

        Raises:
            LaunchError: the working folder or the program is missing on this node.
        """
        host, spec = socket.gethostname(), self._spec
        if not spec.folder.is_dir():
            raise LaunchError(
                f"the working folder {spec.folder} does not exist on {host}; "
                "every node needs it, as with torchrun"
            )
        target = spec.folder / spec.command.target
        if spec.command.form in (Form.SCRIPT, Form.RUN_PATH) and not target.is_file():
            raise LaunchError(f"the script {target} does not exist on {host}; every node needs it")
        if spec.command.form is Form.PROGRAM:
            path = spec.environment.get("PATH")
            program = spec.command.target
            named = str(target) if os.sep in program else program
            if shutil.which(named, path=path) is None:
                raise LaunchError(f"{program!r} is no program that can be executed on {host}")

    def meeting(self) -> Meeting:
        """Where rank 0, if it is started here, is met: an address of this node and a free port."""
        interface = self._spec.interface
        address = interface_address(interface) if interface else _node_address()
        return Meeting(address, self._spec.port or _free_port())

    def start(self, places: Sequence[Place], attempt: Attempt) -> None:
        """Starts the ranks at ``places``.

        Raises:
            LaunchError: the log folder or a process cannot be made.
        """
        try:
            orders = [self._order(place, attempt) for place in places]
            self._ranks = RankProcesses(orders, self._spec.folder, self._warden)
        except OSError as error:
            host = socket.gethostname()
            raise LaunchError(f"cannot start the ranks on {host}: {error}") from error

    def observe(self) -> Observation:
        """What the ranks did since the last call; waits one monitor interval for something."""
        if self._ranks is None:
            return Observation((), (), done=True)
        return self._ranks.observe(self._spec.monitor_interval_s)

    def signal(self, number: int) -> None:
        """Sends a signal to every rank that runs."""
        if self._ranks is not None:
            self._ranks.signal(number)

    def close(self) -> tuple[Output, ...]:
        """Ends what the ranks of the attempt left behind; the last output."""
        if self._ranks is None:
            return ()
        outputs = self._ranks.close(self._spec.shutdown_timeout_s)
        self._ranks = None
        return outputs

    def remove(self, logs: Path) -> None:
        """Removes the logs of a run that nobody asked for."""
        shutil.rmtree(logs, ignore_errors=True)

    def retire(self) -> None:
        """Ends the warden and what it knows; the last call."""
        if self._ranks is not None:
            self._ranks.signal(signal.SIGKILL)
        self._warden.close()

    def _order(self, place: Place, attempt: Attempt) -> RankOrder:
        spec = self._spec
        folder = attempt.folder / str(place.rank)
        folder.mkdir(parents=True, exist_ok=True)
        values = rank_environment(
            spec, place, attempt.meeting, attempt.number, str(folder / ERROR_FILE)
        )
        python = environment.read(environment.PYTHON_EXEC, spec.environment) or sys.executable
        return RankOrder(
            place=place,
            command=arguments(spec.command, python, str(_RUNNER), place),
            environment=values,
            folder=folder,
            shown={stream: spec.routing.shown(place.local_rank, stream) for stream in Stream},
            prefix=line_prefix(spec, place),
            needles={stream: spec.routing.needles(stream) for stream in Stream},
        )


def _free_port() -> int:
    """A port that nobody listens on, outside the usual range of outgoing connections.

    From within that range, another connection could take it before rank 0 does, or a rank that
    knocks too early be connected with itself.
    """
    for port in random.sample(_PORTS, _PORT_TRIALS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise LaunchError(f"no free port among {_PORT_TRIALS} of {_PORTS}; give one as --master-port")


def _node_address() -> str:
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _with_assigned_devices(spec: LaunchSpec) -> LaunchSpec:
    devices = environment.read(environment.VISIBLE_DEVICES)
    if devices is None:
        return spec
    values = {**spec.environment, environment.VISIBLE_DEVICES.name: devices}
    return replace(spec, environment=values)


def new_log_folder(spec: LaunchSpec) -> Path:
    """An empty folder for the logs of a run: ``<log folder>/<run id>``, with a number if taken.

    Raises:
        LaunchError: it cannot be made.
    """
    try:
        if spec.log_folder is None:
            return Path(tempfile.mkdtemp(prefix="ithaca-launch-"))
        spec.log_folder.mkdir(parents=True, exist_ok=True)
        first = re.sub(r"[^\w.-]", "_", spec.run_id)
        number = 1
        while True:
            name = first if number == 1 else f"{first}_{number}"
            folder = spec.log_folder / name
            if not folder.exists():
                folder.mkdir()
                return folder
            number += 1
    except OSError as error:
        raise LaunchError(
            f"--log-dir {spec.log_folder} cannot hold the logs: {error}; give a folder that can "
            "be written"
        ) from error
