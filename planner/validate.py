"""The proof that a set of Programs is complete and cannot deadlock, before anything runs it.

It reads nothing but the Programs, and shares no logic with what made them. Three parts: each
Program for itself (:mod:`ithaca.planner.dataflow`), what they must agree on (here), and progress
under blocking messages (:mod:`ithaca.planner.rendezvous`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ithaca.planner.dataflow import Facts, ProgramError, refuse, walk
from ithaca.planner.plan import Plan
from ithaca.planner.program import Action, Compute, Program, Reduce, Replay, Tie
from ithaca.planner.rendezvous import check_progress
from ithaca.planner.span import format_ids

__all__ = ["ProgramError", "validate"]


def validate(
    programs: Mapping[int, Program],
    *,
    forward_only: bool = False,
    plan: Plan | None = None,
    ties: Iterable[tuple[int, int]] | None = None,
) -> None:
    """Return if ``programs``, by worker id, are one whole step that cannot deadlock.

    Proved: every SEND has its RECV; every micro-batch passes each layer once forward and, unless
    ``forward_only``, once backward (B, or I then W, on the worker and layers of its F), with inputs
    computed or received before and used once; every layer is reduced once by all who hold it,
    with the shares that were really computed; tied gradients are added behind both reductions;
    all commit once, then step what they reduced. Blocking sends and collectives do not deadlock.

    Args:
        programs: of every worker that takes part.
        forward_only: the Programs are a validation pass.
        plan: if given, who computes and holds what must be as in it; for ``forward_only`` only
            the layers that a worker holds are compared.
        ties: if given, the pairs of layers that must be tied, and no others.

    Raises:
        ProgramError: names worker, line and action, and for a deadlock the whole circle.
    """
    _check_heads(programs, plan)
    facts = {w: walk(p, programs, forward_only=forward_only) for w, p in programs.items()}
    _check_transfers(programs, facts)
    _check_forwards(programs, facts)
    _check_collectives(programs, facts)
    _check_holders(programs, facts, ties)
    if plan is not None:
        _check_plan(programs, facts, plan, forward_only)
    check_progress(programs)


def _check_heads(programs: Mapping[int, Program], plan: Plan | None) -> None:
    if not programs:
        raise ProgramError("there are no programs")
    heads = {(p.generation, p.num_layers, p.num_micro_batches) for p in programs.values()}
    if len(heads) != 1:
        raise ProgramError(
            f"programs differ in (generation, layers, micro-batches): {sorted(heads)}"
        )
    _, num_layers, num_micro_batches = heads.pop()
    if num_layers < 1 or num_micro_batches < 1:
        raise ProgramError("a step has at least one layer and one micro-batch")
    for worker, program in programs.items():
        if program.worker != worker:
            raise ProgramError(f"worker {worker} has worker {program.worker}'s program", worker)
    if plan is not None:
        program = next(iter(programs.values()))
        if set(programs) != set(plan.workers):
            raise ProgramError(f"programs of {sorted(programs)}, a plan of {plan.workers}")
        if (program.generation, program.num_layers) != (plan.generation, plan.num_layers):
            raise ProgramError("generation or number of layers are not those of the plan")


def _check_transfers(programs: Mapping[int, Program], facts: Mapping[int, Facts]) -> None:
    for worker, fact in facts.items():
        for (token, peer), index in fact.sends.items():
            if (token, worker) not in facts[peer].receives:
                raise refuse(programs[worker], index, f"worker {peer} has no RECV for it")
        for (token, peer), index in fact.receives.items():
            if (token, worker) not in facts[peer].sends:
                raise refuse(programs[worker], index, f"worker {peer} has no SEND for it")


def _check_forwards(programs: Mapping[int, Program], facts: Mapping[int, Facts]) -> None:
    first: dict[tuple[int, int], int] = {}
    for worker, fact in facts.items():
        for (layer, mb), index in fact.forwards.items():
            if (other := first.setdefault((layer, mb), worker)) != worker:
                reason = f"worker {other} computes layer {layer} for m{mb} too"
                raise refuse(programs[worker], index, reason)
    program = next(iter(programs.values()))
    for layer in range(program.num_layers):
        for mb in range(program.num_micro_batches):
            if (layer, mb) not in first:
                raise ProgramError(f"nobody computes layer {layer} for m{mb}")


def _check_collectives(programs: Mapping[int, Program], facts: Mapping[int, Facts]) -> None:
    for worker, fact in facts.items():
        for action, index in fact.collectives.items():
            for other in _members(action, programs):
                if action not in facts[other].collectives:
                    raise refuse(programs[worker], index, f"worker {other} has no such action")


def _members(action: Action, programs: Mapping[int, Program]) -> Iterable[int]:
    match action:
        case Reduce(shares=shares):
            return [share.worker for share in shares]
        case Tie(workers=workers) | Replay(workers=workers):
            return workers
    return programs


def _check_holders(
    programs: Mapping[int, Program],
    facts: Mapping[int, Facts],
    ties: Iterable[tuple[int, int]] | None,
) -> None:
    holders: dict[int, list[int]] = {}
    for worker in sorted(facts):
        for layer in facts[worker].reduced:
            holders.setdefault(layer, []).append(worker)
    found: dict[tuple[int, int], Tie] = {}
    for worker, fact in facts.items():
        for action, index in fact.collectives.items():
            if isinstance(action, Reduce):
                named = [share.worker for share in action.shares]
                for layer in action.layers:
                    if holders[layer] != named:
                        reason = f"layer {layer} is reduced by workers {holders[layer]}"
                        raise refuse(programs[worker], index, reason)
            if isinstance(action, Tie):
                pair = (action.lower, action.upper)
                if found.setdefault(pair, action) != action:
                    raise refuse(programs[worker], index, "another TIE names the same layers")
                named = [*action.lower_holders, 0, *action.upper_holders]
                if named != [*holders.get(pair[0], []), 0, *holders.get(pair[1], [])]:
                    raise refuse(programs[worker], index, "not all who hold the layers take part")
    if ties is not None and set(found) != (wanted := {(min(t), max(t)) for t in ties}):
        raise ProgramError(f"layers tied: {sorted(found)}, but the workload ties {sorted(wanted)}")


def _check_plan(
    programs: Mapping[int, Program], facts: Mapping[int, Facts], plan: Plan, forward_only: bool
) -> None:
    for worker, fact in facts.items():
        program, held = programs[worker], plan.held(worker)
        for index, action in enumerate(program.actions):
            if isinstance(action, Compute) and not set(action.layers) <= set(held):
                raise refuse(
                    program, index, f"worker {worker} holds layers {format_ids(held)} only"
                )
        if forward_only:
            continue
        if program.num_micro_batches != plan.num_micro_batches:
            raise ProgramError(f"the plan has {plan.num_micro_batches} micro-batches", worker)
        if set(fact.stepped) != set(held):
            raise ProgramError(f"worker {worker} holds {held} but steps {sorted(fact.stepped)}")
        for (layer, mb), index in fact.forwards.items():
            if (named := plan.worker_of(layer, mb)) != worker:
                raise refuse(program, index, f"in the plan worker {named} computes layer {layer}")
