"""The one interface of all answers to a failure: a situation goes in, candidates come out.

A situation is everything a decision may look at; a candidate is a plan that could be next, with
the moves of state that reach it and what is predicted for it. Both are plain data: a decision can
be repeated on paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Protocol

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile


class StrategyName(Enum):
    """The answers; the value is the word in events and drills.

    ``keep`` is the plan as it is, where nothing is lost: new workers and notices are no failures.
    """

    KEEP = "keep"
    REROUTE = "reroute"
    RESHAPE = "reshape"
    SHADOW = "shadow"
    BAMBOO = "bamboo"
    ROLLBACK = "rollback"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Situation:
    """What is known when a decision is due.

    Attributes:
        plan: under which the failure came.
        lost: workers of the plan that are gone (or given up).
        holdings: worker to the layers whose newest committed state it holds. For survivors and
            spares; a spare without state may be left out.
        spares: workers outside the plan that could join, with or without state.
        leaving: workers of the plan that are still there but will be taken away (notices).
        profile: costs of layers and links.
        memory_limit_bytes: per worker; None for no limit.
        exact: sums in the fixed tree, or plain all-reduce.
        ties: pairs of layers that share a weight.
        step: that is under way; steps below it are committed.
        mid_step: whether work of that step has been done that is worth keeping.
        checkpoint_step: steps that the newest checkpoint holds; None if there is none.
        restore_s: seconds to load a checkpoint and start from it.
        regroup_s: seconds from here to the first action of the new generation, without moves.
        nodes: worker to the name of its machine.
        samples_per_micro_batch: for scores in samples per second.
        steps_left: from the one under way to the end of the job; None if it has no end in sight.
        slowness: how many times longer steps have taken lately than is predicted for them.
    """

    plan: Plan
    lost: frozenset[int]
    holdings: Mapping[int, frozenset[int]]
    profile: Profile
    spares: tuple[int, ...] = ()
    leaving: frozenset[int] = frozenset()
    memory_limit_bytes: int | None = None
    exact: bool = True
    ties: tuple[tuple[int, int], ...] = ()
    step: int = 0
    mid_step: bool = False
    checkpoint_step: int | None = None
    restore_s: float = 0.0
    regroup_s: float = 0.05
    nodes: Mapping[int, str] = field(default_factory=dict)
    samples_per_micro_batch: int = 1
    steps_left: int | None = None
    slowness: float = 1.0

    @cached_property
    def survivors(self) -> tuple[int, ...]:
        """Workers of the plan that are left, ascending."""
        return tuple(worker for worker in self.plan.workers if worker not in self.lost)

    @cached_property
    def available(self) -> tuple[int, ...]:
        """Who may be in a new plan: survivors that stay, and spares; ascending."""
        staying = {worker for worker in self.survivors if worker not in self.leaving}
        return tuple(sorted(staying | set(self.spares)))

    def held(self, worker: int) -> frozenset[int]:
        """Layers whose newest state ``worker`` has."""
        return self.holdings.get(worker, frozenset())

    @cached_property
    def there(self) -> dict[int, frozenset[int]]:
        """What survivors, those that leave too, and spares hold: the state that can be sent."""
        return {worker: self.held(worker) for worker in (*self.survivors, *self.spares)}

    @cached_property
    def staying(self) -> dict[int, frozenset[int]]:
        """What those hold who may be in a new plan."""
        return {worker: self.held(worker) for worker in self.available}

    @cached_property
    def orphans(self) -> tuple[int, ...]:
        """Layers that nobody holds any more, ascending."""
        there = frozenset().union(*self.there.values())
        return tuple(layer for layer in range(self.plan.num_layers) if layer not in there)


@dataclass(frozen=True, slots=True)
class Move:
    """``source`` sends the state of ``layer``, ``size`` bytes, to ``target``.

    Written ``move 3 w1 > w4 1024``.
    """

    layer: int
    source: int
    target: int
    size: int

    def __str__(self) -> str:
        return f"move {self.layer} w{self.source} > w{self.target} {self.size}"

    @classmethod
    def parse(cls, text: str) -> Move:
        """The move that ``str`` wrote; ``ValueError`` if the text is none."""
        match text.split():
            case ["move", layer, source, ">", target, size] if source[:1] == target[:1] == "w":
                return cls(int(layer), int(source[1:]), int(target[1:]), int(size))
        raise ValueError(f"a move is written 'move LAYER wA > wB BYTES', not {text!r}")


Rounds = tuple[tuple[Move, ...], ...]
"""Moves in rounds: within one nobody sends to two or receives from two."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that could be next.

    Attributes:
        strategy: whose idea it is.
        plan: that would be next; None if there is none (refuse).
        moves: of state that reach it, in rounds.
        step_s: predicted seconds of a step under it.
        transition_s: predicted seconds of training lost on the way there.
        peak_bytes: the most memory any worker needs under it.
        feasible: whether it can be done at all; memory is a part of that.
        reason: why not, or what is special about it.
        single_holders: layers that only one worker would hold.
        rollback_step: steps that training goes back to; None if nothing is rolled back.
    """

    strategy: StrategyName
    plan: Plan | None
    moves: Rounds = ()
    step_s: float = 0.0
    transition_s: float = 0.0
    peak_bytes: int = 0
    feasible: bool = True
    reason: str = ""
    single_holders: tuple[int, ...] = ()
    rollback_step: int | None = None

    @property
    def moved_bytes(self) -> int:
        """State that has to be moved, in bytes."""
        return sum(move.size for round_ in self.moves for move in round_)


class Strategy(Protocol):
    """One kind of answer."""

    @property
    def name(self) -> StrategyName:
        """What its candidates are called."""

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """The candidates for ``situation``, infeasible ones with the reason; maybe none.

        The plans have the generation after that of ``situation.plan``; the caller may give them
        another one.
        """


def entered(plan: Plan, situation: Situation) -> Situation:
    """The situation once ``plan`` is in force: everybody holds its part of it and nothing else."""
    held = parts(plan)
    spares = tuple(worker for worker in situation.available if worker not in held)
    return replace(
        situation,
        plan=plan,
        lost=frozenset(),
        spares=spares,
        leaving=situation.leaving.intersection(held),
        holdings=held,
        mid_step=False,
    )


def parts(plan: Plan) -> dict[int, frozenset[int]]:
    """Per worker the layers that it holds, as stage or as shadow; one pass, for large plans."""
    found: dict[int, list[int]] = {}
    for stage in (*plan.stages(), *plan.shadows):
        found.setdefault(stage.worker, []).extend(stage.layers)
    return {worker: frozenset(layers) for worker, layers in found.items()}


def holders(plan: Plan) -> list[tuple[int, ...]]:
    """Per layer the workers that hold it, ascending; one pass, for large plans."""
    found: list[list[int]] = [[] for _ in range(plan.num_layers)]
    for stage in (*plan.stages(), *plan.shadows):
        for layer in stage.layers:
            found[layer].append(stage.worker)
    return [tuple(sorted(workers)) for workers in found]


def single_holders(plan: Plan) -> tuple[int, ...]:
    """Layers that only one worker of ``plan`` holds, ascending."""
    return tuple(layer for layer, workers in enumerate(holders(plan)) if len(workers) == 1)
