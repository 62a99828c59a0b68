"""The agents of a launch: one actor on each node that takes part, kept over restarts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ithaca.runtime.cluster import SLOT, Cluster, Machine
from ithaca.runtime.errors import UserError
from ithaca.runtime.script.agent import Agent
from ithaca.runtime.script.contract import Place, places
from ithaca.runtime.script.signals import Signals
from ithaca.runtime.script.spec import LaunchError, LaunchSpec

_START_TIMEOUT_S = 60.0
_FAREWELL_S = 5.0
_FETCH_S = 60.0
_SLICE_S = 0.1

Call: TypeAlias = "ray.ObjectRef[Any]"
"""A call to an agent, under way or ended."""

Handle: TypeAlias = "ActorHandle[Agent]"
"""An agent, wherever it is."""

Seat = tuple[str, int]
"""A node's id and the number of an agent on it; one but for an own cluster."""


class Interrupted(Exception):
    """A signal came while the launch was waiting for Ray; it is in ``Signals.received``."""


@dataclass(frozen=True, slots=True)
class Member:
    """An agent, its node, and its ranks in the present attempt."""

    agent: Handle
    machine: Machine
    places: tuple[Place, ...]


class Crew:
    """Chooses nodes and keeps their agents."""

    def __init__(self, cluster: Cluster, spec: LaunchSpec, signals: Signals) -> None:
        self._cluster = cluster
        self._spec = spec
        self._signals = signals
        self._agents: dict[Seat, Handle] = {}

    def muster(self) -> list[Member]:
        """The members of the next attempt, all answering; rank 0 on this machine if it has any.

        Raises:
            LaunchError: too few nodes, no room, or something is missing on a node.
            Interrupted: a signal came first.
        """
        end = time.monotonic() + _START_TIMEOUT_S
        while True:
            machines = choose(self._cluster.nodes(), self._spec, self._cluster.is_own)
            counts = [ranks_on(machine, self._spec) for machine in machines]
            seats = [(m.id, machines[:i].count(m)) for i, m in enumerate(machines)]
            for seat, machine, count in zip(seats, machines, counts, strict=True):
                if seat not in self._agents:
                    self._agents[seat] = self._hire(machine, count)
            if self._answer(seats, end):
                break
            if time.monotonic() > end:
                raise LaunchError(
                    f"Ray did not start {len(seats)} agents within {_START_TIMEOUT_S:.0f} s on "
                    f"nodes with {_described(machines)}; others may hold those resources "
                    "('ray status' tells)"
                )
        return [
            Member(self._agents[seat], machine, ranks)
            for seat, machine, ranks in zip(seats, machines, places(counts), strict=True)
        ]

    def _answer(self, seats: Sequence[Seat], end: float) -> bool:
        """Whether all agents answer by ``end``; those that turn out to be lost are dismissed."""
        checks: list[Call] = [self._agents[seat].check.remote() for seat in seats]
        try:
            self.all(checks, max(0.0, end - time.monotonic()))
        except GetTimeoutError:
            return False
        except RayActorError:
            for seat, check in zip(seats, checks, strict=True):
                try:
                    result(check)
                except RayActorError:
                    self.dismiss(self._agents[seat])
            return False
        return True

    def all(self, calls: Sequence[Call], timeout_s: float) -> list[object]:
        """The results of calls to agents; an exception that one raised there is raised here.

        Raises:
            Interrupted: a signal came first.
            GetTimeoutError: they took longer than ``timeout_s`` seconds.
            RayActorError: an agent is lost.
        """
        end = time.monotonic() + timeout_s
        waiting: list[Call] = list(calls)
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_SLICE_S)
            if self._signals.received:
                raise Interrupted
            if waiting and time.monotonic() > end:
                raise GetTimeoutError
        return [result(call) for call in calls]

    def dismiss(self, agent: Handle) -> None:
        """Kills an agent that is lost or does not answer; the next attempt hires another."""
        self._agents = {seat: a for seat, a in self._agents.items() if a is not agent}
        ray.kill(agent)

    def disband(self) -> None:
        """Ends all agents, and through their wardens whatever they have started."""
        farewells: list[Call] = [agent.retire.remote() for agent in self._agents.values()]
        if farewells:
            ray.wait(farewells, num_returns=len(farewells), timeout=_FAREWELL_S)
        for agent in list(self._agents.values()):
            self.dismiss(agent)

    def _hire(self, machine: Machine, count: int) -> Handle:
        options = agent_resources(machine, count, self._cluster.is_own)
        actor = ray.remote(Agent).options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
            max_concurrency=1,
            **options,
        )
        return cast(Handle, actor.remote(self._spec, devices_from_ray="num_gpus" in options))


def result(call: Call) -> object:
    """What a call that has ended returned; the agent's own exception instead of Ray's wrapper."""
    try:
        return ray.get(call, timeout=_FETCH_S)
    except RayActorError:
        raise
    except RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, UserError) else error) from None


def choose(machines: Sequence[Machine], spec: LaunchSpec, is_own: bool) -> list[Machine]:
    """The node of each agent, in the order of their ranks.

    An own cluster is one machine; with ``--nnodes`` above one it stands in for several, so that a
    script for several nodes can be tried out. Elsewhere there is one agent on a node at most.

    Raises:
        LaunchError: the cluster has fewer nodes that fit.
    """
    if is_own:
        return [machines[0]] * spec.nodes.least
    fitting = [machine for machine in machines if fits(machine, spec)]
    if len(fitting) < spec.nodes.least:
        raise LaunchError(
            f"--nnodes={spec.nodes} with --nproc-per-node={spec.ranks_per_node} fits on "
            f"{len(fitting)} of the cluster's {len(machines)} nodes, which have "
            f"{_described(machines)}; let more nodes join, or ask for less"
        )
    return fitting[: spec.nodes.most]


def fits(machine: Machine, spec: LaunchSpec) -> bool:
    """Whether the machine has what ``--nproc-per-node`` counts."""
    wanted = spec.ranks_per_node
    if isinstance(wanted, int):
        return wanted <= max(machine.resources.get(name, 0.0) for name in (SLOT, "CPU", "GPU"))
    return wanted != "gpu" or machine.resources.get("GPU", 0.0) >= 1


def ranks_on(machine: Machine, spec: LaunchSpec) -> int:
    """How many ranks the machine gets: a number as it is, words by what the machine has."""
    if isinstance(spec.ranks_per_node, int):
        return spec.ranks_per_node
    gpus = int(machine.resources.get("GPU", 0))
    cpus = int(machine.resources.get("CPU", 0))
    return {"gpu": gpus, "cpu": cpus, "auto": gpus or cpus}[spec.ranks_per_node]


def agent_resources(machine: Machine, count: int, is_own: bool) -> dict[str, Any]:
    """What the agent asks of Ray for its ``count`` ranks.

    On an own cluster one slot: everything there is ours. Elsewhere the ranks' CPUs or slots, and a
    GPU for each where the node has as many.
    """
    if is_own:
        return {"num_cpus": 0, "resources": {SLOT: 1}}
    options: dict[str, Any]
    if SLOT in machine.resources:
        options = {"num_cpus": 0, "resources": {SLOT: count}}
    else:
        options = {"num_cpus": min(count, int(machine.resources.get("CPU", 0)))}
    if machine.resources.get("GPU", 0) >= count:
        options["num_gpus"] = count
    return options


def _described(machines: Sequence[Machine]) -> str:
    return "; ".join(f"{machine.host}: {_resources(machine)}" for machine in machines)


def _resources(machine: Machine) -> str:
    names = [name for name in ("CPU", "GPU", SLOT) if name in machine.resources]
    return ", ".join(f"{machine.resources[name]:g} {name}" for name in names)
