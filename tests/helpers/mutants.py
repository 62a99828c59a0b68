"""Programs with one thing wrong: what a planner with a mistake would hand out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from ithaca.planner.program import Action, Cargo, Compute, Op, Program, Reduce, Share, Transfer
from ithaca.planner.span import Span

Programs = dict[int, Program]
Mutation = Callable[[Random, list[Action], Program], None]


def drop(rng: Random, actions: list[Action], program: Program) -> None:
    """Leave an action out."""
    del actions[rng.randrange(len(actions))]


def duplicate(rng: Random, actions: list[Action], program: Program) -> None:
    """Do an action twice, the second time anywhere behind the first."""
    index = rng.randrange(len(actions))
    actions.insert(rng.randint(index + 1, len(actions)), actions[index])


def swap(rng: Random, actions: list[Action], program: Program) -> None:
    """Exchange two actions; neighbours in half of all cases."""
    index = rng.randrange(len(actions))
    other = min(index + 1, len(actions) - 1) if rng.random() < 0.5 else rng.randrange(len(actions))
    actions[index], actions[other] = actions[other], actions[index]


def retarget(rng: Random, actions: list[Action], program: Program) -> None:
    """Send to or receive from somebody else, over another cut, or the other cargo."""
    index, action = _some(rng, actions, Transfer)
    if not isinstance(action, Transfer):
        return
    turned = Cargo.ACTIVATION if action.cargo is Cargo.GRADIENT else Cargo.GRADIENT
    actions[index] = rng.choice(
        [
            replace(action, peer=action.peer + 1),
            replace(action, cut=action.cut + 1),
            replace(action, cargo=turned),
        ]
    )


def renumber(rng: Random, actions: list[Action], program: Program) -> None:
    """Another micro-batch in a compute or a transfer."""
    index, action = _some(rng, actions, Compute, Transfer)
    if isinstance(action, Compute | Transfer):
        other = rng.randrange(program.num_micro_batches + 1)
        actions[index] = replace(action, micro_batch=other)


def widen(rng: Random, actions: list[Action], program: Program) -> None:
    """One layer more or less in a compute."""
    index, action = _some(rng, actions, Compute)
    if isinstance(action, Compute):
        span = action.layers
        last = span.last + rng.choice([-1, 1])
        actions[index] = replace(action, layers=Span(span.first, max(last, span.first + 1)))


def confuse(rng: Random, actions: list[Action], program: Program) -> None:
    """Another kind of compute."""
    index, action = _some(rng, actions, Compute)
    if isinstance(action, Compute):
        actions[index] = replace(action, op=rng.choice([Op.F, Op.B, Op.I, Op.W]))


def misshare(rng: Random, actions: list[Action], program: Program) -> None:
    """A micro-batch too many or too few in a share of a REDUCE."""
    index, action = _some(rng, actions, Reduce)
    if isinstance(action, Reduce):
        shares = list(action.shares)
        at = rng.randrange(len(shares))
        ids = set(shares[at].micro_batches) ^ {rng.randrange(program.num_micro_batches)}
        shares[at] = Share(shares[at].worker, tuple(sorted(ids)))
        actions[index] = replace(action, shares=tuple(shares))


MUTATIONS: tuple[Mutation, ...] = (
    drop, duplicate, swap, retarget, renumber, widen, confuse, misshare,
)  # fmt: skip


def mutant(rng: Random, programs: Mapping[int, Program], mutation: Mutation) -> Programs:
    """``programs`` with ``mutation`` in one of them; it may have left it as it was."""
    worker = rng.choice(sorted(programs))
    actions = list(programs[worker].actions)
    mutation(rng, actions, programs[worker])
    return {**programs, worker: replace(programs[worker], actions=tuple(actions))}


def _some(rng: Random, actions: list[Action], *kinds: type[Action]) -> tuple[int, Action | None]:
    """Position of an action of one of ``kinds``, and the action; None if there is none."""
    places = [index for index, action in enumerate(actions) if isinstance(action, kinds)]
    if not places:
        return -1, None
    index = rng.choice(places)
    return index, actions[index]
