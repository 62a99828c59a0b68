"""Starts workers on a cluster and ends them with the process that asked for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ithaca.runtime.answers import finished, result
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.crew import Crew, CrewError
from ithaca.runtime.orders import Facts
from ithaca.runtime.worker_process import WorkerProcess

_CALLS = 64
"""Calls that a worker answers at once: each controller of a run leaves one that waits."""


@dataclass(frozen=True, slots=True)
class Hired:
    """A worker that came up, or why it did not."""

    worker: int
    actor: Any
    facts: Facts | None
    reason: str = ""


class WorkerActor(WorkerProcess):
    """Knows from Ray on which node it is."""

    def facts(self, address: str) -> Facts:
        """Who it is, and on which of Ray's nodes."""
        import ray

        told = super().facts(address or ray.util.get_node_ip_address())
        return replace(told, place=ray.get_runtime_context().get_node_id())


class Agency:
    """Hires workers; a context manager that ends them all.

    Args:
        cluster: where they live.
        threads: intra-op threads of each.
        device: ``cpu`` or ``cuda``.
        interface: network interface that they talk over, or None.
        join_s: bound for a worker to come up.
        detect_s: how long a node's daemon may stand still before its workers are given up.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        threads: int = 1,
        device: str = "cpu",
        interface: str | None = None,
        join_s: float = 76.0,
        detect_s: float = 2.0,
    ) -> None:
        import ray

        options = cluster.worker_options(threads) | {"max_concurrency": _CALLS, "max_restarts": 0}
        if device == "cuda":
            options["num_gpus"] = 1
        self._class: Any = ray.remote(WorkerActor).options(**options)
        self._given = (threads, device, interface)
        self._join_s = join_s
        self._detect_s = detect_s
        self._numbers = itertools.count()
        self._actors: dict[int, Any] = {}
        self._begun: dict[Any, int] = {}

    def hire(self, size: int) -> Crew:
        """``size`` workers that are up, numbered so that those of one node follow each other.

        Plans make pipelines of workers that follow each other: so most messages stay on a node,
        and a node that is lost takes pipelines with it and not every holder of a layer.

        Raises:
            CrewError: one of them did not come up within the bound.
        """
        import ray

        numbers = [next(self._numbers) for _ in range(size)]
        facts = {worker: self._start(worker) for worker in numbers}
        try:
            told = ray.get(list(facts.values()), timeout=self._join_s)
        except ray.exceptions.GetTimeoutError:
            done, _ = ray.wait(list(facts.values()), num_returns=len(facts), timeout=0)
            late = [worker for worker, answer in facts.items() if answer not in done]
            raise CrewError(f"workers {late} did not come up within {self._join_s:g} s") from None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayActorError as error:
            raise CrewError(f"a worker died before it could come up: {error}") from None
        came = zip(numbers, told, strict=True)
        ordered = sorted(came, key=lambda each: (each[1].place, each[0]))
        actors = [self._actors[worker] for worker, _ in ordered]
        self._actors |= dict(zip(numbers, actors, strict=True))
        return Crew(
            dict(zip(numbers, actors, strict=True)),
            dict(zip(numbers, [facts for _, facts in ordered], strict=True)),
            self._join_s,
        )

    def begin(self) -> int:
        """Start one more worker without waiting for it; its number. :meth:`arrived` tells on."""
        worker = next(self._numbers)
        self._begun[self._start(worker)] = worker
        return worker

    def arrived(self) -> list[Hired]:
        """Those that were begun and have come up, or failed to, since the last call."""
        if not self._begun:
            return []
        came = []
        for future in finished(list(self._begun), 0.0):
            worker, answer = self._begun.pop(future), result(future)
            if isinstance(answer, Facts):
                came.append(Hired(worker, self._actors[worker], answer))
            else:
                came.append(Hired(worker, None, None, str(answer)))
        return came

    def end(self, workers: Iterable[int]) -> None:
        """End these, also those that have not come up yet; their slots are free again."""
        import ray

        ended = set(workers)
        self._begun = {future: w for future, w in self._begun.items() if w not in ended}
        for worker in ended:
            actor = self._actors.pop(worker, None)
            if actor is not None and ray.is_initialized():
                ray.kill(actor)

    def dismiss(self) -> None:
        """End all workers at once."""
        self.end(list(self._actors))

    def __enter__(self) -> Agency:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dismiss()

    def _start(self, worker: int) -> Any:  # noqa: ANN401 - Ray's reference
        actor = self._actors[worker] = self._class.remote(*self._given)
        facts = actor.facts.remote("")
        actor.watch_node.remote(self._detect_s)
        return facts
