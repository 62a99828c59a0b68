"""One budget for all ranks: a pure function of what each of them proposes.

Ranks that step together wait for each other, so one that has a larger budget gains nothing; and
where several run the same sequence, the same plan on all keeps their collectives in step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ithaca.swap.trace import Link, Trace


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one rank can give and needs.

    Args:
        rank: who.
        sequence: hash of the step that it runs.
        budget_bytes: what its device may hold.
        smallest_bytes: the smallest budget for which it has a plan.
    """

    rank: int
    sequence: str
    budget_bytes: int
    smallest_bytes: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for all of them.

    Args:
        budget_bytes: the smallest of the budgets.
        smallest_bytes: the largest of the needs.
        short: ranks, ascending, that need more than the agreed budget; nobody can begin if there
            is one.
        same_sequence: whether all run the same step, so that one plan is for all.
    """

    budget_bytes: int
    smallest_bytes: int
    short: tuple[int, ...]
    same_sequence: bool


def agree(proposals: Iterable[Proposal]) -> Agreement:
    """The agreement; the same whatever the order. ``ValueError`` for none, or a rank twice."""
    known = sorted(proposals, key=lambda part: part.rank)
    if not known or len({part.rank for part in known}) != len(known):
        raise ValueError("an agreement takes one proposal from each rank, and at least one")
    budget = min(part.budget_bytes for part in known)
    return Agreement(
        budget_bytes=budget,
        smallest_bytes=max(part.smallest_bytes for part in known),
        short=tuple(part.rank for part in known if part.smallest_bytes > budget),
        same_sequence=len({part.sequence for part in known}) == 1,
    )


def merge(traces: Iterable[Trace]) -> Trace:
    """One trace for ranks that run the same sequence: the slowest times, links and largest bytes.

    A plan for it fits every rank. The first trace gives what is the same in all.

    Raises:
        ValueError: there is none, or the sequences, storages, replays or tiers differ.
    """
    known = list(traces)
    if not known:
        raise ValueError("no trace to merge")
    shapes = {
        (
            trace.sequence,
            tuple(replace(part, nbytes=0) for part in trace.saved),
            tuple(replace(part, seconds=0.0, workspace_bytes=0) for part in trace.replays),
            tuple((link.tier, link.through) for link in trace.links),
        )
        for trace in known
    }
    if len(shapes) != 1:
        raise ValueError("the traces are not of the same sequence, storages, replays and tiers")
    return replace(
        known[0],
        points=tuple(
            replace(
                column[0],
                seconds=max(part.seconds for part in column),
                base_bytes=max(part.base_bytes for part in column),
                workspace_bytes=max(part.workspace_bytes for part in column),
            )
            for column in zip(*(trace.points for trace in known), strict=True)
        ),
        saved=tuple(
            replace(column[0], nbytes=max(part.nbytes for part in column))
            for column in zip(*(trace.saved for trace in known), strict=True)
        ),
        replays=tuple(
            replace(
                column[0],
                seconds=max(part.seconds for part in column),
                workspace_bytes=max(part.workspace_bytes for part in column),
            )
            for column in zip(*(trace.replays for trace in known), strict=True)
        ),
        links=tuple(map(_slowest, zip(*(trace.links for trace in known), strict=True))),
        persistent_bytes=max(trace.persistent_bytes for trace in known),
        gradient_bytes=max(trace.gradient_bytes for trace in known),
    )


def _slowest(links: tuple[Link, ...]) -> Link:
    rooms = [link.capacity_bytes for link in links if link.capacity_bytes is not None]
    return replace(
        links[0],
        out_bytes_per_s=min(link.out_bytes_per_s for link in links),
        in_bytes_per_s=min(link.in_bytes_per_s for link in links),
        latency_s=max(link.latency_s for link in links),
        capacity_bytes=min(rooms) if rooms else None,
    )
