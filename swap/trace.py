"""What was observed of one step: its operators, its saved tensors, its links.

Time runs over *points* 0..N-1, one for each operator that was seen (or for each group of them: the
observer decides how fine). "At point i" means: just before the operator of point i starts; N is
the end of the step. A half-open range [a, b) of points says when something is in memory.

Bytes are those of the device's allocator and are disjoint: what a point holds without memory
saving is ``base_bytes + workspace_bytes`` of the point plus ``nbytes`` of every :class:`Saved`
that is alive there. Parameters, gradients and everything that can never move are base.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from ithaca.swap.identity import At, Identity, SegmentKey


@dataclass(frozen=True, slots=True)
class Point:
    """One operator.

    Args:
        name: the operator, for reports.
        seconds: from its start to the start of the next point, without memory saving.
        base_bytes: allocated by everything that is no :class:`Saved`, without its workspace.
        workspace_bytes: allocated above that while the operator runs, at most.
    """

    name: str
    seconds: float
    base_bytes: int
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """The points [first, last) of one run of a module.

    ``content`` is the rolling hash, in hexadecimal digits, of what was seen in it: operators,
    and the dtypes, ranks and size buckets of saved tensors; never a time or a pointer.
    """

    key: SegmentKey
    first: int
    last: int
    content: str


class Role(Enum):
    """What a :class:`Saved` is.

    ``saved``: produced in this step's forward, read by its backward.
    ``state``: optimizer state; read late in the step, and there from one step to the next.
    ``paged``: the same as a session moves it: there when the step begins, away from some point of
    the forward on, and back before the optimizer.
    """

    ACTIVATION = "saved"
    STATE = "state"
    PAGED = "paged"


@dataclass(frozen=True, slots=True)
class Saved:
    """One storage that backward (or the optimizer) will read again; tensors that share it are one.

    Its life without memory saving is [produced_at, freed_at). Swapped or recomputed it may be
    away in [released_at, first_backward_use). A state is there all step long; when swapped it is
    away from the step's start to ``first_backward_use``, and again from ``freed_at`` on.

    Args:
        identity: of the first tensor that was saved with this storage.
        nbytes: of the storage.
        produced_at: the point at which the storage was allocated; 0 for a state.
        last_forward_use: the last point of the forward that reads or writes it.
        released_at: observed drop: the first point from which only autograd holds it, so that
            giving it up frees the bytes; ``None`` if something else holds it all along.
        first_backward_use: the point of the backward (of the optimizer) that first reads it.
        last_use: the last point that reads it.
        freed_at: observed drop: the first point at which the storage is gone; at most N.
        aliases: the other tensors that were saved with the same storage.
        role: activation or optimizer state.
    """

    identity: Identity
    nbytes: int
    produced_at: int
    last_forward_use: int
    released_at: int | None
    first_backward_use: int
    last_use: int
    freed_at: int
    aliases: tuple[Identity, ...] = ()
    role: Role = Role.ACTIVATION


class Recipe(Enum):
    """How a replay makes its outputs again: one elementwise operator, or a block's forward."""

    CHEAP = "cheap"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Replay:
    """A computation of the forward that can be run again during the backward.

    It runs once per step, just before the first backward use of an output that was given up for
    it, and brings back all of those together.

    Args:
        name: unique in the trace, the same in every step; without white space.
        recipe: cheap or block.
        seconds: of one run.
        outputs: the storages that it can bring back; indices into ``Trace.saved``.
        inputs: the storages that it reads; indices into ``Trace.saved``, each below those of
            all outputs. What is in base (parameters, activations at a cut) is not listed.
        workspace_bytes: allocated while it runs beyond the outputs that are brought back.
    """

    name: str
    recipe: Recipe
    seconds: float
    outputs: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """The way from the device to a tier and back, as measured; both directions are independent.

    Args:
        tier: ``pinned`` or ``disk``.
        out_bytes_per_s: device to tier, under load.
        in_bytes_per_s: tier to device, under load.
        latency_s: added to every transfer.
        capacity_bytes: what the tier may hold; ``None`` is no limit.
        through: the tier on the way (``pinned`` for ``disk`` on CUDA), or ``None``. The speeds
            are then those of the second hop; the first is that of the tier on the way.
        wait_s_per_byte: what training was seen to wait for a byte, either way, beyond what plans
            foresaw; for predictions, not for the plans themselves.
    """

    tier: str
    out_bytes_per_s: float
    in_bytes_per_s: float
    latency_s: float = 0.0
    capacity_bytes: int | None = None
    through: str | None = None
    wait_s_per_byte: float = 0.0


@dataclass(frozen=True)
class Trace:
    """One step.

    Args:
        segments: in order; together they cover all points once.
        points: the operators.
        saved: the storages, ascending by ``produced_at``.
        replays: what can be recomputed, in any order.
        links: the tiers, fastest first; empty when nothing can be swapped.
        persistent_bytes: P, part of base or states: parameters, buffers, optimizer state.
        gradient_bytes: G, part of base.

    Raises:
        ValueError: the parts do not fit together; the message names the first that does not.
    """

    segments: tuple[Segment, ...]
    points: tuple[Point, ...]
    saved: tuple[Saved, ...]
    replays: tuple[Replay, ...] = ()
    links: tuple[Link, ...] = ()
    persistent_bytes: int = 0
    gradient_bytes: int = 0

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def sequence(self) -> str:
        """Hash of what ran and what was saved, without times and links: the key of a plan."""
        return sequence_hash((segment.key, segment.content) for segment in self.segments)

    def unpaged(self) -> Trace:
        """The same as if all state could be away at any time, and cost nothing."""
        kept = [index for index, part in enumerate(self.saved) if part.role is not Role.PAGED]
        place = {index: position for position, index in enumerate(kept)}
        replays = tuple(
            replace(
                replay,
                outputs=tuple(place[index] for index in replay.outputs),
                inputs=tuple(place[index] for index in replay.inputs),
            )
            for replay in self.replays
        )
        return replace(self, saved=tuple(self.saved[index] for index in kept), replays=replays)

    @cached_property
    def paged_bytes(self) -> int:
        """Of optimizer state that the session moves."""
        return sum(part.nbytes for part in self.saved if part.role is Role.PAGED)

    @cached_property
    def _ends(self) -> list[int]:
        return [segment.last for segment in self.segments]

    @cached_property
    def _first(self) -> dict[SegmentKey, Segment]:
        return {segment.key: segment for segment in self.segments}

    def at(self, point: int) -> At:
        """The place of ``point``, 0 to N, as it is written in a plan."""
        index = min(bisect_right(self._ends, point), len(self.segments) - 1)
        segment = self.segments[index]
        return At(segment.key, point - segment.first)

    def point(self, at: At) -> int:
        """The point of a place; ``KeyError`` when the trace has no such segment."""
        return self._first[at.segment].first + at.offset


def sequence_hash(segments: Iterable[tuple[SegmentKey, str]]) -> str:
    """32 hexadecimal digits for segments and their contents, in order."""
    text = "\n".join(f"{key} {content}" for key, content in segments)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check(trace: Trace) -> None:
    end = 0
    for segment in trace.segments:
        if segment.first != end or segment.last < segment.first:
            raise ValueError(f"{segment.key}: starts at {segment.first}, expected {end}")
        end = segment.last
    if not trace.segments or end != len(trace.points):
        raise ValueError(f"segments cover {end} points of {len(trace.points)}")
    if len(trace._first) != len(trace.segments):
        raise ValueError("two segments have the same key; count their visits")
    for saved in trace.saved:
        _check_saved(saved, end)
    if [saved.produced_at for saved in trace.saved] != sorted(s.produced_at for s in trace.saved):
        raise ValueError("storages are listed by the point at which they are produced")
    if len({saved.identity for saved in trace.saved}) != len(trace.saved):
        raise ValueError("two storages have the same identity")
    if len({replay.name for replay in trace.replays}) != len(trace.replays):
        raise ValueError("two replays have the same name")
    for replay in trace.replays:
        _check_replay(replay, trace)
    tiers = [link.tier for link in trace.links]
    for link in trace.links:
        if link.through is not None and link.through not in tiers:
            raise ValueError(f"{link.tier} goes through {link.through}, which has no link")
        if min(link.out_bytes_per_s, link.in_bytes_per_s) <= 0:
            raise ValueError(f"{link.tier}: a link has speeds above 0 bytes a second")


def _check_saved(saved: Saved, end: int) -> None:
    released = saved.last_forward_use + 1 if saved.released_at is None else saved.released_at
    order = [0, saved.produced_at, saved.last_forward_use, released - 1]
    if saved.role is Role.STATE:
        order = [0]
    order += [saved.first_backward_use, saved.last_use, saved.freed_at - 1, end - 1]
    apart = saved.role is Role.STATE or released <= saved.first_backward_use
    if saved.nbytes < 0 or order != sorted(order) or not apart:
        raise ValueError(f"{saved.identity}: its points are not in order, or its bytes below 0")


def _check_replay(replay: Replay, trace: Trace) -> None:
    if not replay.outputs or any(part.isspace() for part in replay.name):
        raise ValueError(f"{replay.name!r}: a replay has outputs, and a name without white space")
    indices = (*replay.outputs, *replay.inputs)
    if not all(0 <= index < len(trace.saved) for index in indices):
        raise ValueError(f"{replay.name}: an index is outside of the {len(trace.saved)} storages")
    if replay.inputs and max(replay.inputs) >= min(replay.outputs):
        raise ValueError(f"{replay.name}: an input is listed behind an output")
    if any(trace.saved[index].role is not Role.ACTIVATION for index in indices):
        raise ValueError(f"{replay.name}: optimizer state cannot be computed again")
