"""What is to be launched: the checked form of a command line of ``ithaca launch``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ithaca.runtime.errors import UserError
from ithaca.runtime.script.streams import Routing


class LaunchError(UserError):
    """Nothing was started, and the reason is the user's to mend: one message, exit code 2."""


class Form(Enum):
    """How the command becomes a process."""

    SCRIPT = "script"
    """``python -u script args``"""
    MODULE = "module"
    """``python -u -m module args``"""
    PROGRAM = "program"
    """``program args``, without Python"""
    RUN_PATH = "run-path"
    """the script by ``runpy`` inside an interpreter that records its exception"""


@dataclass(frozen=True, slots=True)
class Command:
    """The user's program, as given: a path, a module name or a program, and its arguments."""

    form: Form
    target: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeRange:
    """How many nodes a group may have: ``least`` to ``most``, at least one.

    Raises:
        ValueError: the range is empty or starts below one.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                f"the number of nodes is N or MIN:MAX with 1 <= MIN <= MAX, not {self}"
            )

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"

    @classmethod
    def parse(cls, text: str) -> NodeRange:
        """Reads ``N`` or ``MIN:MAX``; ``ValueError`` otherwise."""
        least, colon, most = text.partition(":")
        if not (least.isdecimal() and (most.isdecimal() if colon else True)):
            raise ValueError(f"nodes are N or MIN:MAX, not {text!r}")
        return cls(int(least), int(most if colon else least))


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One launch.

    Attributes:
        command: the user's program.
        nodes: how many nodes take part.
        ranks_per_node: a number, or ``gpu``/``cpu``/``auto``: as many as each node has.
        run_id: names the run in TORCHELASTIC_RUN_ID and in the log folder.
        role: ROLE_NAME, and the word in the prefix of teed lines.
        max_restarts: how often the whole group is started again after a failure.
        monitor_interval_s: the longest time between two looks at the ranks, in seconds.
        shutdown_timeout_s: seconds from SIGTERM to SIGKILL when the group is stopped.
        signals: signals to this process that are passed on to the ranks.
        routing: what the console shows.
        log_folder: base folder of the logs; a temporary one when None.
        port: MASTER_PORT of every attempt; a free one for each attempt when None.
        interface: network interface whose address is MASTER_ADDR; the node's own when None.
        virtual_local_rank: LOCAL_RANK is 0 everywhere and each rank sees one GPU.
        folder: working directory of the ranks.
        environment: variables of the launching shell, which the ranks inherit.
        prefix: template of the prefix of teed lines.
    """

    command: Command
    nodes: NodeRange = field(default_factory=lambda: NodeRange(1, 1))
    ranks_per_node: int | str = 1
    run_id: str = "none"
    role: str = "default"
    max_restarts: int = 0
    monitor_interval_s: float = 0.1
    shutdown_timeout_s: float = 30.0
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
    routing: Routing = field(default_factory=Routing)
    log_folder: Path | None = None
    port: int | None = None
    interface: str | None = None
    virtual_local_rank: bool = False
    folder: Path = field(default_factory=Path.cwd)
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "[${role_name}${rank}]:"
