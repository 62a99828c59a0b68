"""Random steps, small enough to be looked at by slow references."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

from ithaca.swap.identity import Identity, Phase, SegmentKey, size_bucket
from ithaca.swap.trace import Link, Point, Recipe, Replay, Role, Saved, Segment, Trace


def random_trace(
    rng: Random,
    storages: int = 8,
    *,
    states: bool = True,
    held: bool = True,
    tiers: int = 2,
    replays: bool = True,
) -> Trace:
    """A step with up to ``storages`` of them; times in milliseconds, bytes in the hundreds."""
    ahead, behind, steps = rng.randint(2, 12), rng.randint(2, 12), rng.randint(1, 3)
    last = ahead + behind + steps
    points = tuple(
        Point(f"op{i}", rng.randint(0, 9) / 1000, 50 + rng.randint(0, 40), rng.choice([0, 0, 30]))
        for i in range(last)
    )
    segments = (
        *_segments(rng, Phase.FORWARD, 0, ahead),
        *_segments(rng, Phase.BACKWARD, ahead, ahead + behind),
        *_segments(rng, Phase.OPTIMIZER, ahead + behind, last),
    )
    saved = [_activation(rng, ahead, behind, last, held) for _ in range(rng.randint(1, storages))]
    if states:
        saved += [_state(rng, ahead + behind, last) for _ in range(rng.randint(0, 2))]
    saved.sort(key=lambda part: part.produced_at)
    named = tuple(_named(part, index, segments) for index, part in enumerate(saved))
    return Trace(
        segments=segments,
        points=points,
        saved=named,
        replays=_replays(rng, named) if replays else (),
        links=tuple(_link(rng, index) for index in range(rng.randint(0, tiers))),
    )


def _segments(rng: Random, phase: Phase, first: int, last: int) -> list[Segment]:
    cuts = sorted({first, last, *(rng.randint(first, last) for _ in range(2))})
    return [
        Segment(SegmentKey(phase, f"m{number}"), low, high, f"{rng.randrange(2**16):04x}")
        for number, (low, high) in enumerate(pairwise(cuts))
    ]


_NOBODY = Identity(SegmentKey(Phase.FORWARD, ""), 0, 0, "float32", 1, 0)


def _activation(rng: Random, ahead: int, behind: int, last: int, held: bool) -> Saved:
    produced = rng.randrange(ahead)
    use = rng.randint(produced, ahead - 1)
    first = rng.randint(ahead, ahead + behind - 1)
    end = rng.randint(first, ahead + behind - 1)
    released: int | None = rng.randint(use + 1, min(first, use + 3))
    if held and rng.random() < 0.15:
        released = None
    freed = rng.randint(end + 1, min(last, end + 2))
    nbytes = rng.choice([0, rng.randint(1, 200), rng.randint(1, 200), rng.randint(100, 400)])
    return Saved(_NOBODY, nbytes, produced, use, released, first, end, freed)


def _state(rng: Random, first: int, last: int) -> Saved:
    use = rng.randint(first, last - 1)
    end = rng.randint(use, last - 1)
    freed = rng.randint(end + 1, last)
    return Saved(_NOBODY, rng.randint(1, 300), 0, 0, None, use, end, freed, role=Role.STATE)


def _named(saved: Saved, index: int, segments: tuple[Segment, ...]) -> Saved:
    at = saved.first_backward_use if saved.role is Role.STATE else saved.produced_at
    segment = next(part for part in segments if part.first <= at < part.last)
    return replace(
        saved, identity=Identity(segment.key, index, index, "float32", 2, size_bucket(saved.nbytes))
    )


def _replays(rng: Random, saved: tuple[Saved, ...]) -> tuple[Replay, ...]:
    indices = [index for index, part in enumerate(saved) if part.role is Role.ACTIVATION]
    made = []
    for number in range(rng.randint(0, 4)):
        if not indices:
            break
        outputs = sorted(rng.sample(indices, min(len(indices), rng.choice([1, 1, 2, 3]))))
        before = [index for index in indices if index < outputs[0]]
        inputs = sorted(rng.sample(before, min(len(before), rng.randint(0, 2))))
        recipe = Recipe.CHEAP if len(outputs) == 1 else Recipe.BLOCK
        parts = tuple(outputs), tuple(inputs), rng.choice([0, 25])
        made.append(Replay(f"r{number}", recipe, rng.randint(0, 20) / 1000, *parts))
    return tuple(made)


def _link(rng: Random, index: int) -> Link:
    out, back = (rng.choice([3e3, 3e4, 3e5]) * (1 + rng.random()) for _ in range(2))
    through = "pinned" if index and rng.random() < 0.5 else None
    room = rng.choice([None, None, rng.randint(0, 800)])
    return Link(("pinned", "disk")[index], out, back, rng.choice([0.0, 1e-3]), room, through)
