"""The workers of a cluster as Ray actors: started once, kept warm, given assignments.

Ray places processes and tells when one dies; it is not asked for more. Every call has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.errors import UserError
from ithaca.runtime.orders import Assignment, Facts, NotSaved, Outcome, Saved, Trouble

T = TypeVar("T")


class CrewError(RuntimeError):
    """A worker did not come up or did not answer."""


class Crew:
    """Warm workers, numbered from 0; a context manager that ends them.

    Args:
        cluster: where they live.
        size: how many.
        threads: intra-op threads of each.
        device: ``cpu`` or ``cuda``.
        interface: network interface that they talk over, or None.
        join_s: bound for a worker to come up.
    """

    def __init__(
        self,
        cluster: Cluster,
        size: int,
        *,
        threads: int = 1,
        device: str = "cpu",
        interface: str | None = None,
        join_s: float = 76.0,
    ) -> None:
        import ray

        from ithaca.runtime.worker import Worker

        options = cluster.worker_options() | {"max_concurrency": 4, "max_restarts": 0}
        if device == "cuda":
            options["num_gpus"] = 1
        # Before torch starts in the worker: kernels change bits with the number of threads.
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        actor = ray.remote(Worker).options(runtime_env={"env_vars": variables}, **options)
        self._join_s = join_s
        self.actors: dict[int, Any] = {
            number: actor.remote(threads, device, interface) for number in range(size)
        }
        addresses = {machine.id: machine.address for machine in cluster.nodes()}
        self.facts: dict[int, Facts] = self._meet(addresses)

    def _meet(self, addresses: Mapping[str, str]) -> dict[int, Facts]:
        own = next(iter(addresses.values()))
        return self._all(lambda a: a.facts.remote(own), self.actors, self._join_s, "come up")

    def _all(
        self, call: Callable[[Any], Any], workers: Mapping[int, Any], bound_s: float, what: str
    ) -> dict[int, Any]:
        """The answer of every worker, or the first error as it is."""
        import ray

        answers = {number: call(actor) for number, actor in workers.items()}
        try:
            ready = ray.get(list(answers.values()), timeout=bound_s)
        except ray.exceptions.GetTimeoutError:
            done, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=0)
            late = [number for number, answer in answers.items() if answer not in done]
            raise CrewError(f"workers {late} did not {what} within {bound_s:g} s") from None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayActorError as error:
            raise CrewError(f"a worker died before it could {what}: {error}") from None
        return dict(zip(answers, ready, strict=True))

    def assign(self, assignments: Sequence[Assignment]) -> None:
        """Give everybody their layers.

        Raises:
            UserError: the workload refuses its options, or a checkpoint does not fit.
        """
        by_worker = {assignment.worker: assignment for assignment in assignments}
        try:
            self._each("assign", {w: (a,) for w, a in by_worker.items()}, "build its layers")
        except ValueError as error:
            raise UserError(f"a worker cannot take its part: {error}") from error

    def connect(self, workers: Sequence[int]) -> None:
        """Let the first worker host the store, and everybody meet there."""
        first = min(workers)
        opened = self._each("open_store", {first: (self._join_s,)}, "open the store")
        meeting = (self.facts[first].address, opened[first])
        self._each("connect", dict.fromkeys(workers, meeting), "meet the others")

    def _each(
        self, method: str, arguments: Mapping[int, tuple[Any, ...]], what: str
    ) -> dict[int, Any]:
        actors = {worker: self.actors[worker] for worker in arguments}
        numbers = {id(actor): worker for worker, actor in actors.items()}
        return self._all(
            lambda actor: getattr(actor, method).remote(*arguments[numbers[id(actor)]]),
            actors,
            self._join_s,
            what,
        )

    def train(self, workers: Sequence[int]) -> dict[Any, int]:
        """Start to train; futures of :class:`Outcome` or :class:`Trouble`, with their workers."""
        return {self.actors[worker].train.remote(): worker for worker in workers}

    def save(self, workers: Sequence[int], step: int, folder: str) -> dict[Any, int]:
        """Start to write; futures of :class:`Saved` or :class:`NotSaved`, with their workers."""
        return {self.actors[worker].save.remote(step, folder): worker for worker in workers}

    def release(self) -> None:
        """Everybody gives up its assignment and stays warm."""
        self._each("release", dict.fromkeys(self.actors, ()), "release its layers")

    def dismiss(self) -> None:
        """End all workers at once."""
        import ray

        if ray.is_initialized():
            for actor in self.actors.values():
                ray.kill(actor)
        self.actors.clear()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()


def result(future: Any) -> Outcome | Trouble | Saved | NotSaved:  # noqa: ANN401 - Ray's reference
    """What a finished future holds; raises if its worker died."""
    import ray

    try:
        return ray.get(future)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def finished(futures: Sequence[Any], bound_s: float) -> list[Any]:
    """Those of ``futures`` that are done; waits at most ``bound_s`` seconds for the first."""
    import ray

    if not futures:
        return []
    ready, _ = ray.wait(list(futures), num_returns=1, timeout=bound_s)
    if ready:
        ready, _ = ray.wait(list(futures), num_returns=len(futures), timeout=0)
    return list(ready)


def is_death(error: BaseException) -> bool:
    """Whether ``error`` says that a worker's process is gone."""
    import ray

    return isinstance(error, ray.exceptions.RayActorError)
