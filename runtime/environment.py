"""The one place that reads, and for Ray's daemons sets, environment variables.

Every variable that changes what Ithaca does is declared here with its meaning and default. What a
script of ``ithaca launch`` reads is its own affair: it is handed the launching shell's variables
as :func:`snapshot` found them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that Ithaca reads.

    Attributes:
        name: as in the shell.
        meaning: one sentence for the documentation.
        default: what holds when it is unset or empty; ``None`` for nothing.
    """

    name: str
    meaning: str
    default: str | None = None


RAY_ADDRESS = Variable(
    "RAY_ADDRESS", "The Ray cluster that --address=auto attaches to, as host:port."
)
PYTHON_EXEC = Variable(
    "PYTHON_EXEC", "The Python that runs a launched script; the one that runs Ithaca if unset."
)
SHUTDOWN_TIMEOUT = Variable(
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    "Seconds between SIGTERM and SIGKILL for a launched script; --shutdown-timeout wins.",
    "30",
)
LOG_LINE_PREFIX = Variable(
    "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE",
    "What stands before a line of --tee: ${role_name}, ${rank} and ${local_rank} are replaced.",
    "[${role_name}${rank}]:",
)
GLOO_INTERFACE = Variable(
    "GLOO_SOCKET_IFNAME",
    "The network interface whose address the ranks of a launched script meet at.",
)
VISIBLE_DEVICES = Variable(
    "CUDA_VISIBLE_DEVICES", "The GPUs that a launched script may use; all of them if unset."
)

VARIABLES = (
    RAY_ADDRESS,
    PYTHON_EXEC,
    SHUTDOWN_TIMEOUT,
    LOG_LINE_PREFIX,
    GLOO_INTERFACE,
    VISIBLE_DEVICES,
)
"""All single variables; besides them ``PET_<FLAG>`` sets a flag of ``ithaca launch``."""

FLAG_PREFIX = "PET_"
"""``PET_NPROC_PER_NODE=4`` is ``--nproc-per-node=4``, as with torchrun; the flag itself wins."""


def read(variable: Variable, environment: Mapping[str, str] | None = None) -> str | None:
    """The value of ``variable``, or its default when unset or empty.

    ``environment`` is read instead of this process's own when given.
    """
    values = os.environ if environment is None else environment
    return values.get(variable.name) or variable.default


def flag(name: str) -> str | None:
    """What ``PET_<NAME>`` says for the flag ``name`` (in underscore spelling); None if unset."""
    return os.environ.get(FLAG_PREFIX + name.upper())


def snapshot() -> dict[str, str]:
    """All variables of this process, to be taken before Ray adds its own."""
    return dict(os.environ)


@contextmanager
def changed(values: Mapping[str, str | None]) -> Iterator[None]:
    """Sets variables (``None``: unsets) for this process and its children; restores at the end."""
    before = {name: os.environ.get(name) for name in values}
    _apply(values)
    try:
        yield
    finally:
        _apply(before)


def _apply(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
