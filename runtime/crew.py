"""The crew: calls to warm workers, by number. Every call has a bound.

Workers are Ray actors that :mod:`ithaca.runtime.agency` starts and ends; a crew holds nothing but
their handles, so that it can be sent to another process. Ray places processes and tells when one
dies; it is not asked for more.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ithaca.runtime.answers import Answers, result
from ithaca.runtime.errors import UserError
from ithaca.runtime.orders import Assignment, Deployment, Facts, NotSaved, Outcome, Saved, Trouble


class CrewError(RuntimeError):
    """A worker did not come up or did not answer."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Instead of an answer.

    Attributes:
        reason: one line.
        dead: the worker's process is gone; otherwise it was late, or the call raised.
        error: what the call raised, if it did.
    """

    reason: str
    dead: bool = False
    error: Exception | None = None


class Call:
    """A call to some workers that is under way."""

    def __init__(self, futures: Mapping[int, Any]) -> None:
        self._waiting = dict(futures)
        self._answers: dict[int, Any] = {}

    @property
    def waiting(self) -> frozenset[int]:
        """Workers that have not answered yet."""
        return frozenset(self._waiting)

    def poll(self, bound_s: float) -> dict[int, Any]:
        """The answers so far, or :class:`Silence`; waits at most ``bound_s`` seconds for all."""
        import ray

        if self._waiting:
            futures = list(self._waiting.values())
            done, _ = ray.wait(futures, num_returns=len(futures), timeout=bound_s)
            for worker, future in list(self._waiting.items()):
                if future in done:
                    del self._waiting[worker]
                    self._answers[worker] = _spoken(result(future))
        return dict(self._answers)

    def answers(self, bound_s: float) -> dict[int, Any]:
        """The answer of everybody; who has not answered within ``bound_s`` seconds is silent."""
        late = Silence(f"did not answer within {bound_s:g} s")
        return {**self.poll(bound_s), **dict.fromkeys(self._waiting, late)}


class Crew:
    """Calls to workers that are numbered from 0; a number is never used twice.

    Args:
        actors: handle of each worker.
        facts: what each said of itself.
        join_s: bound for calls that load data or connect.
    """

    def __init__(
        self, actors: Mapping[int, Any], facts: Mapping[int, Facts], join_s: float
    ) -> None:
        self.actors = dict(actors)
        self.facts = dict(facts)
        self.join_s = join_s
        self._answers: Answers | None = None

    def __reduce__(self) -> tuple[type[Crew], tuple[dict[int, Any], dict[int, Facts], float]]:
        return Crew, (self.actors, self.facts, self.join_s)

    def part(self, workers: Iterable[int]) -> Crew:
        """A crew of some of these workers."""
        chosen = sorted(workers)
        actors = {worker: self.actors[worker] for worker in chosen}
        return Crew(actors, {worker: self.facts[worker] for worker in chosen}, self.join_s)

    def add(self, worker: int, actor: Any, facts: Facts) -> None:  # noqa: ANN401 - Ray's handle
        """A worker that came later."""
        self.actors[worker], self.facts[worker] = actor, facts

    # -- calls that everybody has to answer

    def assign(self, assignments: Sequence[Assignment]) -> None:
        """Give everybody their layers.

        Raises:
            UserError: the workload refuses its options, or a checkpoint does not fit.
            CrewError: a worker died or is late.
        """
        by_worker = {assignment.worker: (assignment,) for assignment in assignments}
        try:
            self._all("assign", by_worker, "build its layers")
        except ValueError as error:
            raise UserError(f"a worker cannot take its part: {error}") from error

    def release(self) -> None:
        """Everybody gives up its assignment and stays warm."""
        self._all("release", dict.fromkeys(self.actors, ()), "release its layers")

    # -- calls that some may not answer

    def ask(
        self, method: str, arguments: Mapping[int, tuple[Any, ...]], bound_s: float
    ) -> dict[int, Any]:
        """Call ``method`` of workers; the answer of each, or :class:`Silence`."""
        return self.call(method, arguments).answers(bound_s)

    def call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> Call:
        """Call ``method`` of workers without waiting."""
        return Call(
            {
                worker: getattr(self.actors[worker], method).remote(*given)
                for worker, given in arguments.items()
            }
        )

    def stand(self, workers: Iterable[int], generation: int) -> Call:
        """Stop everybody for ``generation``; answers are standings."""
        return self.call("stand", dict.fromkeys(workers, (generation,)))

    def adopt(self, deployments: Mapping[int, Deployment]) -> Call:
        """Give everybody its part of a generation; answers come when its workers have met."""
        return self.call("adopt", {worker: (part,) for worker, part in deployments.items()})

    def dump(self, workers: Iterable[int]) -> Call:
        """The stacks of all threads; answers are texts."""
        return self.call("dump", dict.fromkeys(workers, ()))

    # -- calls whose answers come later

    def train(self, worker: int, take: Callable[[Outcome | Trouble | Silence], None]) -> None:
        """Let a worker train, or wait for one that trains already; ``take`` gets how it ended."""
        future = self.actors[worker].train.remote()
        self._later().add(future, lambda answer: take(_spoken(answer)))

    def prepare(self, assignment: Assignment, take: Callable[[Silence | None], None]) -> None:
        """Give a worker that came later its assignment; ``take`` is told when it is done."""
        future = self.actors[assignment.worker].assign.remote(assignment)
        self._later().add(future, lambda answer: take(_spoken(answer)))

    def pause(self, worker: int, take: Callable[[int | Silence], None]) -> None:
        """Let all stand still behind a step; ``take`` gets its number once this one does."""
        future = self.actors[worker].pause.remote()
        self._later().add(future, lambda answer: take(_spoken(answer)))

    def save(
        self, worker: int, step: int, folder: str, take: Callable[[Saved | NotSaved], None]
    ) -> None:
        """Let a worker write its layers for a checkpoint; ``take`` gets what it wrote."""

        def saved(answer: Any) -> None:  # noqa: ANN401 - what Ray had
            spoken = _spoken(answer)
            lost = isinstance(spoken, Silence)
            take(NotSaved(f"a writer died: {spoken.reason}") if lost else spoken)

        self._later().add(self.actors[worker].save.remote(step, folder), saved)

    def kill(self, worker: int) -> None:
        """End a worker's process, also one that is stopped, if it can be reached from here."""
        import ray

        facts = self.facts[worker]
        if facts.node == socket.gethostname():
            try:
                os.kill(facts.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        elif ray.is_initialized():
            ray.kill(self.actors[worker])

    def hang_up(self, timeout_s: float) -> None:
        """Wait for no more answers."""
        if self._answers is not None:
            self._answers.stop(timeout_s)
            self._answers = None

    def _later(self) -> Answers:
        if self._answers is None:
            self._answers = Answers()
        return self._answers

    def _all(
        self, method: str, arguments: Mapping[int, tuple[Any, ...]], what: str
    ) -> dict[int, Any]:
        """The answer of every worker, or the first error as it is."""
        answers = self.ask(method, arguments, self.join_s)
        for worker, answer in answers.items():
            if isinstance(answer, Silence):
                if answer.error is not None:
                    raise answer.error
                raise CrewError(f"worker {worker} did not {what}: {answer.reason}")
        return answers


def _spoken(answer: Any) -> Any:  # noqa: ANN401 - whatever a worker's method returns
    """``answer``, with an exception turned into :class:`Silence`."""
    import ray

    if isinstance(answer, ray.exceptions.ActorUnavailableError):
        return Silence("Ray does not reach it")
    if isinstance(answer, ray.exceptions.RayActorError):
        return Silence("its process died", dead=True)
    if isinstance(answer, Exception):
        return Silence(f"{type(answer).__name__}: {answer}", error=answer)
    return answer
