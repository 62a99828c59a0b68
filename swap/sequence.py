"""From what the observer counted to the names and the trace of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from ithaca.swap.identity import Identity, Phase, SegmentKey, size_bucket
from ithaca.swap.plan import Action, Decision, Plan
from ithaca.swap.replays import Maker, is_cheap
from ithaca.swap.trace import Link, Point, Role, Saved, Segment, Trace

# Columns of the observer's tables, as csrc/bindings.cpp writes them.
RUN, SAVE, ALIAS, USE, RELEASED, FREED, END, REPLAY, REPLAYED, NOTED, CHEAP = range(11)
WHAT = (
    *("segment", "save", "alias", "use", "released", "freed", "end"),
    *("replay", "replayed", "noted", "cheap"),
)
PHASES = (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
ACTIONS = {Action.KEEP: 0, Action.SWAP: 1, Action.RECOMPUTE: 2}
# To the disk behind pinned memory.
SWAP_FAR = 4
AGAIN = 5  # recompute, by one operator
DTYPES = {
    number: str(dtype).removeprefix("torch.")
    for number, dtype in enumerate(
        (
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.float16,
            torch.float32,
            torch.float64,
            torch.complex32,
            torch.complex64,
            torch.complex128,
            torch.bool,
        )
    )
} | {15: "bfloat16"}
NUMBERS = {name: number for number, name in DTYPES.items()}


@dataclass(frozen=True)
class Names:
    """Between the numbers of the observer and the names of modules."""

    modules: tuple[str, ...]

    def segment(self, phase: int, slot: int, module: int, visit: int) -> SegmentKey:
        """The key of a run; odd numbers are what a parent does after a module."""
        name = self.modules[module // 2]
        return SegmentKey(PHASES[phase], f"{name}/after" if module % 2 else name, slot, visit)

    def identity(self, key: int, alias: int, look: int) -> Identity:
        """The name of the tensor that was saved under ``key``, ``alias`` being its storage's."""
        key &= 2**64 - 1
        segment = self.segment(0, key >> 54 & 0x1FF, key >> 32 & 0x3FFFFF, key >> 20 & 0xFFF)
        same = (alias ^ key) & ~0xFFFFF & 2**63 - 1 == 0
        ordinal = key & 0xFFFFF
        dtype = DTYPES.get(look >> 16, f"dtype{look >> 16}")
        first = alias & 0xFFFFF if same else ordinal
        return Identity(segment, ordinal, first, dtype, look >> 8 & 0xFF, look & 0xFF)

    def key(self, identity: Identity) -> int:
        """The number of an identity, as the observer counts."""
        segment = identity.segment
        after = segment.module.endswith("/after")
        name = segment.module.removesuffix("/after")
        module = 2 * self.modules.index(name) + after
        return segment.slot << 54 | module << 32 | segment.visit << 20 | identity.ordinal


def look_number(identity: Identity) -> int:
    """Dtype, rank and size bucket in one number, as the observer compares them."""
    return NUMBERS.get(identity.dtype, 0) << 16 | identity.rank << 8 | identity.bucket


def rows_of(plan: Plan, names: Names, triggers: dict[Identity, list[Identity]]) -> list[int]:
    """The plan as the vault reads it: key, look, action, prefetches of each storage.

    ``triggers``: what is to be read when a storage is used.
    """
    rows: list[int] = []
    two = any(decision.tier == "pinned" for decision in plan.decisions)
    for decision in plan.decisions:
        if decision.identity.segment.phase is Phase.OPTIMIZER:
            continue
        far = two and decision.tier == "disk"
        follow = [names.key(identity) for identity in triggers.get(decision.identity, ())]
        rows += [
            names.key(decision.identity),
            look_number(decision.identity),
            _number(decision, far=far),
            len(follow),
            *follow,
        ]
    return rows


def _number(decision: Decision, *, far: bool) -> int:
    if is_cheap(decision.replay):
        return AGAIN
    return SWAP_FAR if far else ACTIONS[decision.action]


def triggers_of(plan: Plan, trace: Trace) -> dict[Identity, list[Identity]]:
    """For each storage: which reads start when backward first uses it.

    A read starts with the last use that is not behind its place in the plan.
    """
    kept = [saved for saved in trace.saved if saved.role is not Role.PAGED]
    uses = [(saved.first_backward_use, saved.identity) for saved in kept]
    uses.sort(key=lambda use: use[0])
    found: dict[Identity, list[tuple[int, Identity]]] = {}
    first_use = {saved.identity: saved.first_backward_use for saved in kept}
    for decision in plan.decisions:
        if decision.prefetch is None or decision.identity not in first_use:
            continue
        place = trace.point(decision.prefetch)
        before = [use for use in uses if use[0] <= place and use[1] != decision.identity]
        if before:
            entry = (first_use[decision.identity], decision.identity)
            found.setdefault(before[-1][1], []).append(entry)
    return {
        trigger: [identity for _, identity in sorted(reads, key=lambda read: read[0])]
        for trigger, reads in found.items()
    }


def makers_of(names: Names, moments: Sequence[Sequence[int]]) -> tuple[Maker, ...]:
    """Storages that one operator makes, each with the storages that it reads, as logged."""
    found: dict[int, list[int]] = {}
    beside: dict[int, int] = {}
    for moment in moments:
        if moment[0] == CHEAP:
            found.setdefault(moment[2], []).append(moment[3])
            beside[moment[2]] = moment[4]
    return tuple(
        Maker(
            names.identity(output, output, 0),
            tuple(names.identity(key, key, 0) for key in inputs if key != -1),
            beside[output],
        )
        for output, inputs in found.items()
    )


def made_of(names: Names, moments: Sequence[Sequence[int]]) -> tuple[tuple[Identity, float], ...]:
    """Storages that one operator made again in this step, each with the seconds that it took."""
    found = []
    began: Sequence[int] | None = None
    for before, moment in pairwise(moments):
        if moment[0] == REPLAY:
            began = moment if before[0] == USE else None
            key = before[3]
        elif moment[0] == REPLAYED and began is not None:
            seconds = (moment[5] - began[5] - (moment[6] - began[6])) / 1e9
            found.append((names.identity(key, key, 0), max(0.0, seconds)))
            began = None
    return tuple(found)


def with_states(trace: Trace, sizes: Sequence[int]) -> Trace:
    """``trace`` with the optimizer state in the session's care, of ``sizes`` bytes each.

    It takes part in the step only if there is an optimizer in it.
    """
    optimizer = [part for part in trace.segments if part.key.phase is Phase.OPTIMIZER]
    end = len(trace.points)
    if not sizes or not optimizer or not 0 < optimizer[0].first < end:
        return trace
    states = tuple(
        Saved(
            identity=Identity(optimizer[0].key, number, number, "uint8", 1, size_bucket(nbytes)),
            nbytes=nbytes,
            produced_at=0,
            last_forward_use=0,
            released_at=1,
            first_backward_use=optimizer[0].first,
            last_use=end - 1,
            freed_at=end,
            role=Role.PAGED,
        )
        for number, nbytes in enumerate(sizes)
    )
    return replace(trace, saved=states + trace.saved)


@dataclass
class _Life:
    """What the log tells of one storage."""

    identity: Identity
    nbytes: int
    produced: int
    last_save: int
    released: int | None = None
    first_use: int | None = None
    last_use: int = 0
    freed: int | None = None
    aliases: list[Identity] | None = None
    noted: bool = False  # was dropped, to be computed again

    def _gone(self, end: int) -> int:
        return end if self.freed is None else self.freed

    def saved(self, end: int) -> Saved | None:
        """As part of a trace of ``end`` points; ``None`` if backward never reads it."""
        if self.first_use is None or self.first_use <= self.last_save:
            return None
        released = self.last_save + 1 if self.noted else self.released
        if released is not None:
            released = max(released, self.last_save + 1)
            if released > self.first_use:
                released = None
        return Saved(
            identity=self.identity,
            nbytes=self.nbytes,
            produced_at=self.produced,
            last_forward_use=self.last_save,
            released_at=released,
            first_backward_use=self.first_use,
            last_use=self.last_use,
            freed_at=min(end, max(self._gone(end), self.last_use + 1)),
            aliases=tuple(self.aliases or ()),
        )


def trace_of(
    names: Names,
    runs: Sequence[Sequence[int]],
    moments: Sequence[Sequence[int]],
    links: tuple[Link, ...],
    persistent_bytes: int,
    gradient_bytes: int,
) -> Trace:
    """The trace of a step that was observed in detail.

    Every moment of the log is a point, but for the last, which ends the step, and for what was
    computed again: the trace is that of a step in which nothing is.

    Args:
        names: of the modules.
        runs: phase, slot, module, visit, operators, saves, hash.
        moments: what, run, key, other, look, ns, waited, allocated, peak, managed, operators,
            net_freed.
        links: measured.
        persistent_bytes: P.
        gradient_bytes: G.

    Raises:
        ValueError: the log is not that of a whole step.
    """
    if len(moments) < 2:
        raise ValueError("nothing was observed in this step")
    following = _following(moments)
    moments = [moment for moment, _ in following]
    end = len(moments) - 1
    lives = _lives(names, moments)
    saved = [(life, life.saved(end)) for life in lives]
    extra = [0] * (end + 1)
    for life, kept in saved:
        if kept is None:  # nobody can move it: part of the base
            stop = end if life.freed is None else min(life.freed, end)
            for at in range(life.produced, stop):
                extra[at] += life.nbytes
    points = [_point(*following[at], extra[at]) for at in range(end)]
    return Trace(
        segments=_segments(names, runs, moments, end),
        points=tuple(points),
        saved=tuple(kept for _, kept in saved if kept is not None),
        links=links,
        persistent_bytes=persistent_bytes,
        gradient_bytes=gradient_bytes,
    )


def _following(
    moments: Sequence[Sequence[int]],
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Every moment outside of replays, with the one that was logged next."""
    kept = []
    inside = False
    for moment, following in zip(moments, [*moments[1:], moments[-1]], strict=True):
        if moment[0] == REPLAY:
            inside = True
        if not inside:
            kept.append((moment, following))
        if moment[0] == REPLAYED:
            inside = False
    return kept


def _point(moment: Sequence[int], following: Sequence[int], extra: int) -> Point:
    allocated, managed = moment[7], moment[9]
    seconds = (following[5] - moment[5] - (following[6] - moment[6])) / 1e9
    return Point(
        name=WHAT[moment[0]],
        seconds=max(0.0, seconds),
        base_bytes=max(0, allocated - managed) + extra,
        workspace_bytes=max(0, following[8] - allocated + following[11] - moment[11]),
    )


def _segments(
    names: Names, runs: Sequence[Sequence[int]], moments: Sequence[Sequence[int]], end: int
) -> tuple[Segment, ...]:
    firsts: dict[int, int] = {}
    for at, moment in enumerate(moments[:end]):
        firsts.setdefault(moment[1], at)
    starts = sorted((at, run) for run, at in firsts.items())
    stops = [at for at, _ in starts[1:]] + [end]
    segments = []
    for (first, number), last in zip(starts, stops, strict=True):
        phase, slot, module, visit, operators, saves, content = runs[number]
        key = names.segment(phase, slot, module, visit)
        text = f"{content & 2**64 - 1:016x}{operators:x}{saves:x}"
        segments.append(Segment(key, first, last, text))
    return tuple(segments)


def _lives(names: Names, moments: Sequence[Sequence[int]]) -> list[_Life]:
    lives: dict[int, _Life] = {}
    again: list[_Life] = []
    for at, (what, _, key, other, look, *_rest) in enumerate(moments):
        if what == FREED:
            # What was computed again has no name any more. An operator reads all that it needs
            # before it runs, so the first end behind a use is that of the operator.
            for read in again:
                read.freed = at
            again.clear()
        if what in (SAVE, NOTED):
            identity = names.identity(key, key, look)
            lives[key] = _Life(identity, other, at, at, noted=what == NOTED)
            continue
        life = lives.get(other)
        if life is None:
            continue
        if what == ALIAS:
            life.last_save = at
            life.aliases = [*(life.aliases or ()), names.identity(key, other, look)]
        elif what == RELEASED and life.first_use is None:
            life.released = at
        elif what == USE:
            life.first_use = at if life.first_use is None else life.first_use
            life.last_use = at
            if life.noted:
                again.append(life)
        elif what == FREED and not life.noted:
            life.freed = at
    return list(lives.values())
