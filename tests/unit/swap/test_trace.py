"""Names of saved tensors and places, and what a trace refuses."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.swap.identity import At, Identity, Phase, SegmentKey, size_bucket
from ithaca.swap.trace import (
    Link,
    Point,
    Recipe,
    Replay,
    Role,
    Saved,
    Segment,
    Trace,
    sequence_hash,
)
from tests.helpers.memory_traces import random_trace

MODULES = st.text(st.characters(exclude_categories=("Z", "C")), max_size=12)
KEYS = st.builds(SegmentKey, st.sampled_from(Phase), MODULES, st.integers(0, 99), st.integers(0, 9))
IDENTITIES = st.builds(
    Identity,
    KEYS,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from(["float32", "bfloat16", "bool"]),
    st.integers(0, 8),
    st.integers(0, 50),
)
SEEDS = st.integers(0, 2**32).map(Random)


@given(KEYS, st.integers(0, 10**6))
def test_segments_and_places_parse_back(key: SegmentKey, offset: int) -> None:
    assert SegmentKey.parse(str(key)) == key
    assert At.parse(str(At(key, offset))) == At(key, offset)


@given(IDENTITIES)
def test_identities_parse_back(identity: Identity) -> None:
    assert Identity.parse(str(identity)) == identity


@pytest.mark.parametrize("text", ["", "F@a", "X@a/m0.0", "F@a b/m0.0", "F@a/m0"])
def test_what_is_no_segment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a segment is written"):
        SegmentKey.parse(text)
    with pytest.raises(ValueError, match="is written"):
        At.parse(f"{text}+1")
    with pytest.raises(ValueError, match="is written"):
        Identity.parse(f"{text}#0~0:float32:r1:b3")


def test_sizes_fall_into_buckets_of_powers_of_two() -> None:
    assert [size_bucket(n) for n in (0, 1, 2, 3, 4, 1023, 1024)] == [0, 0, 1, 1, 2, 9, 10]


@given(SEEDS)
def test_places_and_points_agree(rng: Random) -> None:
    trace = random_trace(rng)
    for point in range(len(trace.points) + 1):
        assert trace.point(trace.at(point)) == point


def small() -> Trace:
    """Two storages, one replay, one link."""
    forward, backward = SegmentKey(Phase.FORWARD, "a"), SegmentKey(Phase.BACKWARD, "a")
    first = Identity(forward, 0, 0, "float32", 2, 6)
    second = replace(first, ordinal=1, alias=1)
    return Trace(
        segments=(Segment(forward, 0, 2, "aa"), Segment(backward, 2, 5, "bb")),
        points=tuple(Point(f"op{i}", 0.1, 10) for i in range(5)),
        saved=(Saved(first, 64, 0, 0, 1, 3, 3, 4), Saved(second, 64, 1, 1, 2, 2, 2, 3)),
        replays=(Replay("r", Recipe.CHEAP, 0.1, (1,), (0,)),),
        links=(Link("disk", 1e6, 1e6),),
    )


def test_the_sequence_is_told_by_content_alone() -> None:
    trace = small()
    slower = replace(
        trace,
        points=tuple(replace(point, seconds=9.0) for point in trace.points),
        links=(),
    )
    other = replace(trace, segments=(replace(trace.segments[0], content="ab"), trace.segments[1]))
    assert slower.sequence == trace.sequence != other.sequence
    swapped = [(part.key, part.content) for part in trace.segments[::-1]]
    assert sequence_hash(swapped) != trace.sequence


FIRST, SECOND = small().saved
REPLAY = small().replays[0]
LINK = small().links[0]
SEGMENTS = small().segments
STATE = replace(FIRST, role=Role.STATE, first_backward_use=3, last_use=3, freed_at=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": SEGMENTS[:1]}, "segments cover 2 points of 5"),
        ({"segments": (SEGMENTS[0], replace(SEGMENTS[1], first=3))}, "starts at 3, expected 2"),
        ({"segments": (SEGMENTS[0], replace(SEGMENTS[1], key=SEGMENTS[0].key))}, "same key"),
        ({"saved": (SECOND, FIRST)}, "listed by the point"),
        ({"saved": (FIRST, replace(SECOND, identity=FIRST.identity))}, "same identity"),
        ({"saved": (FIRST, replace(SECOND, released_at=1))}, "not in order"),
        ({"saved": (FIRST, replace(SECOND, released_at=3))}, "not in order"),
        ({"saved": (FIRST, replace(SECOND, freed_at=2))}, "not in order"),
        ({"saved": (FIRST, replace(SECOND, freed_at=6))}, "not in order"),
        ({"saved": (FIRST, replace(SECOND, last_use=1))}, "not in order"),
        ({"saved": (FIRST, replace(SECOND, nbytes=-1))}, "below 0"),
        ({"replays": (REPLAY, REPLAY)}, "same name"),
        ({"replays": (replace(REPLAY, name="a b"),)}, "without white space"),
        ({"replays": (replace(REPLAY, outputs=()),)}, "a replay has outputs"),
        ({"replays": (replace(REPLAY, outputs=(7,)),)}, "outside of the 2 storages"),
        ({"replays": (replace(REPLAY, outputs=(0,), inputs=(1,)),)}, "behind an output"),
        ({"saved": (STATE, SECOND)}, "cannot be computed again"),
        ({"links": (replace(LINK, through="pinned"),)}, "has no link"),
        ({"links": (replace(LINK, in_bytes_per_s=0.0),)}, "above 0 bytes a second"),
    ],
)
def test_a_trace_that_does_not_fit_together_is_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small(), **change)  # type: ignore[arg-type]
