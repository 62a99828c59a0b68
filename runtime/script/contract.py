"""The environment contract: which variables a rank finds, as torchrun and Ray Train set them.

Sources: torch.distributed.run (torch 2.13) for all but NODE_RANK, which Ray Train adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from ithaca.runtime.script.spec import Command, Form, LaunchError, LaunchSpec


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a rank in its group.

    Attributes:
        rank, world: number among all ranks, and how many there are.
        local_rank, local_world: the same among the ranks of its node.
        node, nodes: number of its node, and how many nodes there are.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    node: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the ranks of one attempt meet: rank 0 listens at ``address``:``port``."""

    address: str
    port: int


def places(ranks: Sequence[int]) -> tuple[tuple[Place, ...], ...]:
    """Numbers the ranks of nodes that have ``ranks[node]`` of them; one tuple for each node."""
    world = sum(ranks)
    first = [sum(ranks[:node]) for node in range(len(ranks))]
    return tuple(
        tuple(Place(first[n] + i, world, i, count, n, len(ranks)) for i in range(count))
        for n, count in enumerate(ranks)
    )


def rank_environment(
    spec: LaunchSpec, place: Place, meeting: Meeting, attempt: int, error_file: str
) -> dict[str, str]:
    """All variables of one rank: the launching shell's, and the contract's on top.

    ``TORCHELASTIC_USE_AGENT_STORE`` is False: rank 0 hosts the store at the meeting itself.
    """
    values = dict(spec.environment)
    if place.local_world > 1:
        values.setdefault("OMP_NUM_THREADS", "1")
    values.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    values |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_world),
        "GROUP_RANK": str(place.node),
        "GROUP_WORLD_SIZE": str(place.nodes),
        "NODE_RANK": str(place.node),
        "ROLE_NAME": spec.role,
        "ROLE_RANK": str(place.rank),
        "ROLE_WORLD_SIZE": str(place.world),
        "MASTER_ADDR": meeting.address,
        "MASTER_PORT": str(meeting.port),
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        "TORCHELASTIC_MAX_RESTARTS": str(spec.max_restarts),
        "TORCHELASTIC_RUN_ID": spec.run_id,
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": error_file,
        "TORCHELASTIC_SIGNALS_TO_HANDLE": ",".join(number.name for number in spec.signals),
    }
    if spec.virtual_local_rank:
        values["LOCAL_RANK"] = "0"
        values["CUDA_VISIBLE_DEVICES"] = _own_device(values, place.local_rank)
    return values


def _own_device(values: dict[str, str], local_rank: int) -> str:
    visible = values.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(local_rank)
    devices = visible.split(",")
    if local_rank >= len(devices):
        raise LaunchError(
            f"--virtual-local-rank gives every rank a GPU of its own, but there is none for local "
            f"rank {local_rank}: CUDA_VISIBLE_DEVICES={visible}. Start fewer ranks on a node."
        )
    return devices[local_rank].strip()


def arguments(command: Command, python: str, runner: str, place: Place) -> tuple[str, ...]:
    """The argument list of the process of one rank.

    ``${local_rank}`` in the user's arguments becomes the local rank, as with torchrun.

    Args:
        command: the user's program.
        python: the interpreter.
        runner: path of the program ``run_path.py``.
        place: the rank's place.
    """
    head = {
        Form.SCRIPT: (python, "-u", command.target),
        Form.MODULE: (python, "-u", "-m", command.target),
        Form.PROGRAM: (command.target,),
        Form.RUN_PATH: (python, "-u", "-P", runner, command.target),
    }[command.form]
    macros = {"local_rank": str(place.local_rank)}
    return (*head, *(Template(a).safe_substitute(macros) for a in command.arguments))


def line_prefix(spec: LaunchSpec, place: Place) -> str:
    """What stands before a teed line of the rank."""
    return Template(spec.prefix).safe_substitute(
        role_name=spec.role, rank=place.rank, local_rank=place.local_rank
    )
