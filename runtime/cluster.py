"""The Ray cluster under a job: one of our own on this machine, or one that is there already.

An own cluster is private: it listens on the loopback interface unless told otherwise, asks for a
random token of this run, lives in a temporary folder, and ends with the process that started it,
however that process ends: Ray's daemons get a parent-death signal, and ``sweeper.py`` sees to the
rest.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import secrets
import shutil
import signal
import site
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import ithaca
from ithaca.runtime import environment
from ithaca.runtime.errors import UserError

logger = logging.getLogger(__name__)

SLOT = "slot"
"""The custom resource of which a worker takes one; more workers than cores are possible."""

_SWEEPER = Path(__file__).with_name("sweeper.py")
_OBJECT_STORE_BYTES = 200_000_000
_LONGEST_FOLDER = 40  # Ray puts sockets below it, whose paths may have at most 107 bytes
_PROBE_S = 5.0
_SIOCGIFADDR = 0x8915


class ClusterError(UserError):
    """The cluster that was asked for cannot be had; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A living node of the cluster.

    Attributes:
        id: Ray's, hexadecimal.
        address: IP address on which the other nodes reach it.
        host: its name.
        resources: what it has in all, by Ray's names (``CPU``, ``GPU``, ``slot``).
        is_here: it is the node on which this process runs.
    """

    id: str
    address: str
    host: str
    resources: Mapping[str, float]
    is_here: bool


class Cluster:
    """A connection of this process to a Ray cluster; a context manager that ends with it.

    Made by :meth:`start`. ``address`` is ``host:port``; ``is_own`` says that this process started
    the cluster and that :meth:`shutdown` will stop it.
    """

    def __init__(self, address: str, is_own: bool, cleanup: ExitStack) -> None:
        self.address = address
        self.is_own = is_own
        self._cleanup = cleanup

    @classmethod
    def start(
        cls,
        workers: int,
        address: str = "local",
        *,
        cpus: int | None = None,
        interface: str | None = None,
        paths: Sequence[Path] = (),
    ) -> Cluster:
        """Starts an own cluster (``address="local"``) or attaches to one.

        Call it in a thread that lives as long as the cluster (the main thread): the daemons die
        with the thread that started them.

        Args:
            workers: slots of an own cluster, at least one.
            address: ``local``, ``auto`` (what RAY_ADDRESS or the last ``ray start`` on this
                machine says) or ``host:port`` of a cluster this machine is a node of.
            cpus: the ``CPU`` resource of an own cluster; as many as workers, up to the cores.
            interface: name of the network interface of an own cluster; loopback by default.
            paths: folders from which the workers of an own cluster import, besides this package.

        Raises:
            ClusterError: a connection exists already, or the cluster cannot be started or reached.
        """
        import ray

        if workers < 1:
            raise ClusterError(f"a cluster has at least one worker, not {workers}")
        if "://" in address:
            raise ClusterError(
                f"the address {address!r} names a protocol; give host:port of a cluster of which "
                "this machine is a node, or 'auto'"
            )
        if ray.is_initialized():
            raise ClusterError("this process is connected to a Ray cluster already; leave it first")
        with ExitStack() as stack:
            stack.enter_context(_raylets_quiet())
            if address == "local":
                found = _start_own(stack, workers, cpus, interface, paths)
            else:
                found = _attach(stack, address)
            return cls(found, address == "local", stack.pop_all())

    def nodes(self) -> tuple[Machine, ...]:
        """The living nodes, the one of this process first, then by address."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        machines = [
            Machine(
                id=node["NodeID"],
                address=node["NodeManagerAddress"],
                host=node["NodeManagerHostname"],
                resources=dict(node["Resources"]),
                is_here=node["NodeID"] == here,
            )
            for node in cast(list[dict[str, Any]], ray.nodes())
            if node["Alive"]
        ]
        return tuple(sorted(machines, key=lambda m: (not m.is_here, m.address, m.id)))

    def probe(self) -> None:
        """Ask the head for nothing; returns when it has answered, raises if it does not."""
        worker: Any = importlib.import_module("ray._private.worker")
        worker.global_worker.gcs_client.internal_kv_exists(b"ithaca", None)

    def worker_options(self, threads: int) -> dict[str, Any]:
        """What an actor asks of Ray for one worker: a slot, or a CPU where nobody has slots.

        And its number of intra-op threads, from before torch starts in it: kernels change bits with
        that. On a cluster of our own Ray itself says one; then a process can be used that Ray has
        started in advance.
        """
        options: dict[str, Any] = {"num_cpus": 1}
        if self.is_own or any(SLOT in machine.resources for machine in self.nodes()):
            options = {"num_cpus": 0, "resources": {SLOT: 1}}
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        ours = environment.snapshot()
        same = all(ours.get(name, value) == value for name, value in variables.items())
        if not (self.is_own and threads == 1 and same):
            options["runtime_env"] = {"env_vars": variables}
        return options

    def shutdown(self) -> None:
        """Disconnects; stops the daemons if they are ours. May be called twice."""
        self._cleanup.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def manager_options() -> dict[str, Any]:
    """What an actor asks of Ray that manages work: this node, no slot, a successor when lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_concurrency": 8,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }


def interface_address(name: str) -> str:
    """The IPv4 address of this machine's network interface ``name``.

    Raises:
        ClusterError: there is no such interface, or it has no IPv4 address; names the others.
    """
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError as error:
            known = ", ".join(sorted(n for _, n in socket.if_nameindex()))
            raise ClusterError(
                f"no IPv4 address on the network interface {name!r} of {socket.gethostname()} "
                f"({error.strerror}); its interfaces are: {known}"
            ) from error
    return socket.inet_ntoa(answer[20:24])


def package_folder() -> Path:
    """The folder of the package ``ithaca``, whose parent makes it importable."""
    return Path(next(iter(ithaca.__path__))).resolve()


def _start_own(
    stack: ExitStack, workers: int, cpus: int | None, interface: str | None, paths: Sequence[Path]
) -> str:
    import ray

    folder = _folder(stack)
    token = folder / "token"
    with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    imports = [str(path) for path in (package_folder().parent, *paths)]
    _start_sweeper(stack, folder)
    stack.callback(_reread_settings)
    stack.enter_context(
        environment.changed(
            {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": None,
                "RAY_AUTH_TOKEN_PATH": str(token),
                # Ray's own switch for a cluster of one machine; its name tells where it is usual.
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1" if interface else "0",
                "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
                "RAY_USAGE_STATS_ENABLED": "0",
                # Ray gives workers the lowest priority but four; ours are what the machine is for.
                "RAY_worker_niceness": "0",
                "PYTHONPATH": _python_path(imports),
            }
        )
    )
    _reread_settings()
    stack.enter_context(_one_machine(interface is None))
    cores = len(os.sched_getaffinity(0))
    stack.callback(ray.shutdown)
    listen_on = interface_address(interface) if interface else None
    try:
        with _signal_handlers_kept(), _daemons_apart(), _fewer_daemons():
            ray.init(
                address="local",
                num_cpus=cpus or min(workers, cores),
                resources={SLOT: float(workers)},
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address=listen_on,
                _temp_dir=str(folder),
            )
    except Exception as error:  # Ray raises no narrower one
        raise ClusterError(
            f"Ray could not start a cluster on this machine: {error}\nIf the machine is busy, try "
            "again when it is less so; 'ithaca doctor' tells what it lacks."
        ) from error
    return str(ray.get_runtime_context().gcs_address)


def _attach(stack: ExitStack, address: str) -> str:
    import ray
    from ray.exceptions import AuthenticationError

    stack.callback(ray.shutdown)
    try:
        with _signal_handlers_kept():
            ray.init(
                address=_reachable(address),
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"py_modules": [str(package_folder())]},
            )
    except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
        raise ClusterError(
            f"cannot attach to the Ray cluster {address!r}: {error}\n"
            "Start one with 'ray start --head' and let this machine join it, with the same token "
            "if it asks for one; or leave --address out for a cluster of its own."
        ) from error
    return str(ray.get_runtime_context().gcs_address)


def _reachable(address: str) -> str:
    """``address`` as host:port, where somebody listens: Ray itself would try for minutes.

    Raises:
        OSError, ValueError: nobody listens, or no cluster is known or meant by the address.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:
        raise ValueError("no cluster runs on this machine, and RAY_ADDRESS names none")
    host, _, port = found.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
    return str(found)


def _folder(stack: ExitStack) -> Path:
    base = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ithaca-", dir=base if len(base) < _LONGEST_FOLDER else "/tmp")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _start_sweeper(stack: ExitStack, folder: Path) -> None:
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SWEEPER), str(os.getpid()), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert sweeper.stdin is not None
    stack.callback(sweeper.stdin.close)
    sweeper.wait()  # it detaches at once


def _python_path(folders: Sequence[str]) -> str:
    """PYTHONPATH with ``folders`` in front; site-packages never, it must not hide the library."""
    installed = set(site.getsitepackages())
    before = environment.snapshot().get("PYTHONPATH", "").split(os.pathsep)
    wanted = [folder for folder in folders if folder not in installed]
    return os.pathsep.join(dict.fromkeys(part for part in (*wanted, *before) if part))


def _reread_settings() -> None:
    """Makes Ray read the token and its mode again: it does so once a process, we may start twice.

    The mode comes first, or a thread of a connection that is just ending misses the old token.
    """
    from ray._raylet import (  # type: ignore[attr-defined]
        AuthenticationTokenLoader,
        Config,
    )

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _replaced(owner: Any, **parts: object) -> Iterator[None]:  # noqa: ANN401 - a module or class
    """Puts ``parts`` in the place of those of ``owner``, which has no setting for what they do."""
    before = {name: getattr(owner, name) for name in parts}
    for name, part in parts.items():
        setattr(owner, name, part)
    try:
        yield
    finally:
        for name, part in before.items():
            setattr(owner, name, part)


def _one_machine(alone: bool) -> AbstractContextManager[None]:
    """Makes a Ray that was imported before listen on loopback, as the variable does for others."""
    from ray._private import ray_constants

    return _replaced(ray_constants, ENABLE_RAY_CLUSTER=not alone)


def _raylets_quiet() -> AbstractContextManager[None]:
    """Keeps what Ray's daemons say about processes that died off the terminal; it is logged.

    A run tells itself which worker was lost and why, in one line.
    """

    def log(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        for line in data["lines"]:
            logger.info("%s: %s", data["pid"], line)

    return _replaced(importlib.import_module("ray._private.worker"), print_to_stdstream=log)


def _daemons_apart() -> AbstractContextManager[None]:
    """Gives every daemon that is started a session of its own.

    A signal to our process group (``timeout``, a shell's ``kill %1``, a hang-up) then reaches us
    alone, and we end the job in order before the daemons go.
    """
    apart = partial(subprocess.Popen, start_new_session=True)
    return _replaced(importlib.import_module("ray._private.services"), ConsolePopen=apart)


def _fewer_daemons() -> AbstractContextManager[None]:
    """Leaves out those of Ray's daemons that a cluster of one machine and one job has no use for.

    The server of a dashboard that is not shown, the autoscaler, and the one that forwards logs to
    a driver that does not want them: three Python processes, two seconds of a core at each start.
    """

    def leave_out(*_: object, **__: object) -> None:
        pass

    return _replaced(
        importlib.import_module("ray._private.node").Node,
        start_api_server=leave_out,
        start_monitor=leave_out,
        start_log_monitor=leave_out,
    )


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Undoes the SIGTERM handler that ``ray.init`` installs, once it is through.

    Ray's handler exits with 15; it becomes the exit code of shells, 128 + 15.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        raise SystemExit(128 + signal.SIGTERM if end.code == signal.SIGTERM else end.code) from end
    finally:
        signal.signal(signal.SIGTERM, before)
