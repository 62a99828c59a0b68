"""What this machine has and lacks for running jobs, each finding with what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ithaca.runtime.config.units import about_size
from ithaca.runtime.free_memory import MEMINFO, free_bytes

_GIB = 2**30
_NEEDED = ("ray", "grpcio", "pydantic", "PyYAML", "numpy", "scipy", "safetensors", "rich")
_MODULES = {"grpcio": "grpc", "PyYAML": "yaml"}
_FEW_FILES = 1024


class Level(Enum):
    """``missing``: no job can run; ``warn``: some can, or slower than they should."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; ``todo`` is empty when nothing is to be done."""

    name: str
    level: Level
    text: str
    todo: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Everything about this machine that a job depends on; run folders would go to ``folder``."""
    yield python()
    yield torch()
    yield extension()
    for name in _NEEDED:
        yield package(name)
    yield stubs()
    yield cores()
    yield memory()
    yield shared_memory(Path("/dev/shm"))
    yield accelerator()
    yield loopback()
    yield open_files()
    yield run_folder(folder)
    yield compiler()
    yield deepspeed()


def can_run(findings: list[Finding]) -> bool:
    """Whether a job can run: nothing is missing."""
    return all(finding.level is not Level.MISSING for finding in findings)


def python(found: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Python itself; 3.11 or newer."""
    text = f"{platform.python_implementation()} {'.'.join(map(str, found))}"
    if found < (3, 11):
        return Finding("python", Level.MISSING, text, "install Python 3.11 or newer")
    return Finding("python", Level.OK, text)


def torch(load: Callable[[str], object] = importlib.import_module) -> Finding:
    """torch; 2.11 or newer."""
    try:
        load("torch")
        found = version("torch")
    except (ImportError, OSError, PackageNotFoundError) as error:
        return Finding("torch", Level.MISSING, _short(error), "pip install 'torch>=2.11'")
    major, minor = (int(part) for part in found.split(".")[:2])
    if (major, minor) < (2, 11):
        return Finding("torch", Level.MISSING, found, "pip install 'torch>=2.11'")
    return Finding("torch", Level.OK, found)


def extension(load: Callable[[str], object] = importlib.import_module) -> Finding:
    """The C++ extension, built for this torch."""
    try:
        load("ithaca._C")
    except (ImportError, OSError) as error:
        todo = "build it: pip install --no-build-isolation -e . (needs a C++ compiler)"
        return Finding("ithaca._C", Level.MISSING, _short(error), todo)
    return Finding("ithaca._C", Level.OK, "loads")


def package(name: str, load: Callable[[str], object] = importlib.import_module) -> Finding:
    """A package that every job needs."""
    try:
        load(_MODULES.get(name, name))
        return Finding(name, Level.OK, version(name))
    except (ImportError, OSError, PackageNotFoundError) as error:
        return Finding(name, Level.MISSING, _short(error), f"pip install {name}")


def stubs(load: Callable[[str], object] = importlib.import_module) -> Finding:
    """The generated half of the control plane."""
    try:
        load("ithaca.runtime.control.control_pb2_grpc")
    except ImportError as error:
        todo = "python -m ithaca.runtime.control.generate"
        return Finding("grpc stubs", Level.MISSING, _short(error), todo)
    return Finding("grpc stubs", Level.OK, "generated")


def cores() -> Finding:
    """Processor cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if count is None or count < 2:
        todo = "workers will take turns; use a machine with more cores"
        return Finding("cores", Level.WARN, f"{count or 'unknown'}", todo)
    return Finding("cores", Level.OK, f"{count}")


def memory(meminfo: Path = MEMINFO) -> Finding:
    """Memory that is free for jobs; a worker with torch takes about half a GiB."""
    free = free_bytes(meminfo)
    if free is None:
        return Finding("memory", Level.WARN, "unknown", "see that 4 GiB are free")
    if free < 4 * _GIB:
        todo = "free memory, or use fewer workers; each takes about 0.5 GiB"
        return Finding("memory", Level.WARN, f"{about_size(free)} free", todo)
    return Finding("memory", Level.OK, f"{about_size(free)} free")


def shared_memory(where: Path) -> Finding:
    """Shared memory, in which Ray keeps its objects."""
    try:
        size = shutil.disk_usage(where).free
    except OSError as error:
        todo = "Ray will use /tmp, more slowly; mount a tmpfs there"
        return Finding(str(where), Level.WARN, _short(error), todo)
    if size < _GIB // 2:
        todo = "enlarge it (docker run --shm-size=2g), or Ray uses /tmp, more slowly"
        return Finding(str(where), Level.WARN, f"{about_size(size)} free", todo)
    return Finding(str(where), Level.OK, f"{about_size(size)} free")


def accelerator() -> Finding:
    """GPUs; jobs run without."""
    try:
        cuda = importlib.import_module("torch").cuda
    except (ImportError, OSError):
        return Finding("gpu", Level.WARN, "unknown, torch does not load")
    if not cuda.is_available():
        return Finding("gpu", Level.OK, "none; jobs run on the processor")
    names = [cuda.get_device_name(index) for index in range(cuda.device_count())]
    return Finding("gpu", Level.OK, ", ".join(names))


def loopback(address: str = "127.0.0.1") -> Finding:
    """A connection from this machine to itself."""
    try:
        with socket.create_server((address, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        return Finding("loopback", Level.MISSING, _short(error), "ip link set lo up")
    return Finding("loopback", Level.OK, f"{address} answers")


def open_files(limits: Callable[[int], tuple[int, int]] = resource.getrlimit) -> Finding:
    """How many files and sockets a process may have open."""
    soft, hard = limits(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    text = "unlimited" if soft == unlimited else f"{soft}"
    if soft != unlimited and soft < _FEW_FILES:
        most = "unlimited" if hard == unlimited else hard
        return Finding("open files", Level.WARN, text, f"ulimit -n {most}; Ray needs 1024")
    return Finding("open files", Level.OK, text)


def run_folder(folder: Path) -> Finding:
    """Whether run folders can be made in ``folder``, which may be missing itself."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        todo = "make the folder writable, or set the job's 'folder'"
        return Finding("run folder", Level.MISSING, f"{folder}: {_short(error)}", todo)
    if free < _GIB:
        todo = "free some space: checkpoints go there"
        return Finding("run folder", Level.WARN, f"{folder}: {about_size(free)} free", todo)
    return Finding("run folder", Level.OK, f"{folder}: {about_size(free)} free")


def compiler(which: Callable[[str], str | None] = shutil.which) -> Finding:
    """A C++ compiler, which only building needs."""
    found = next((path for name in ("c++", "g++", "clang++") if (path := which(name))), None)
    if found is None:
        todo = "only to build ithaca._C: apt-get install g++"
        return Finding("c++ compiler", Level.WARN, "none", todo)
    return Finding("c++ compiler", Level.OK, found)


def deepspeed() -> Finding:
    """DeepSpeed, which only scripts of ``ithaca launch`` use."""
    try:
        return Finding("deepspeed", Level.OK, version("deepspeed"))
    except PackageNotFoundError:
        todo = "only for DeepSpeed scripts: pip install 'ithaca[deepspeed]'"
        return Finding("deepspeed", Level.WARN, "not installed", todo)


def _short(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:120]
