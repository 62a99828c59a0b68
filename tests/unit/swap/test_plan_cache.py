"""Known sequences have their plan at once; changed ones keep what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.swap import cache
from ithaca.swap.cache import PlanCache, common
from ithaca.swap.identity import At, Identity, Phase, SegmentKey, size_bucket
from ithaca.swap.plan import Action, Plan
from ithaca.swap.policy import Refusal, decide, smallest_budget
from ithaca.swap.trace import Link, Point, Saved, Segment, Trace
from tests.helpers.mutated import mutated

EXPERTS, LAYERS = 8, 4


class LengthDetector:
    """The control: a step is the same if it has about as many operators (5 %), as published."""

    def __init__(self) -> None:
        self._length: int | None = None

    def changed(self, trace: Trace) -> bool:
        """Whether it takes ``trace`` for another sequence than the last one."""
        before, self._length = self._length, len(trace.points)
        return before is None or abs(len(trace.points) - before) >= 0.05 * before


def mixture(tokens: list[list[int]], dtype: str = "float32") -> Trace:
    """A step of a mixture of experts: ``tokens[layer][expert]`` rows; none, and it does not run."""
    modules = []
    for layer, counts in enumerate(tokens):
        modules.append((f"layers.{layer}.attention", 512))
        modules += [
            (f"layers.{layer}.experts.{number}", rows) for number, rows in enumerate(counts) if rows
        ]
    return chain([(name, rows, dtype) for name, rows in modules])


def chain(modules: list[tuple[str, int, str]]) -> Trace:
    """A step in which each module saves two storages of ``rows`` x 4 KiB and 1 KiB."""
    count = len(modules)
    segments, saved = [], []
    for at, (name, rows, dtype) in enumerate(modules):
        sizes = (rows * 4096, rows * 1024)
        content = f"{name}:{dtype}:{'-'.join(str(size_bucket(size)) for size in sizes)}"
        key = SegmentKey(Phase.FORWARD, name)
        segments.append(Segment(key, 2 * at, 2 * at + 2, content))
        back = 4 * count - 2 * at - 2
        for ordinal, nbytes in enumerate(sizes):
            identity = Identity(key, ordinal, ordinal, dtype, 2, size_bucket(nbytes))
            produced = 2 * at + ordinal
            saved.append(
                Saved(identity, nbytes, produced, produced, produced + 1, back, back + 1, back + 2)
            )
    for at, (name, _, dtype) in enumerate(reversed(modules)):
        first = 2 * count + 2 * at
        segments.append(
            Segment(SegmentKey(Phase.BACKWARD, name), first, first + 2, f"b{name}:{dtype}")
        )
    points = tuple(Point("op", 1e-3, 10**6) for _ in range(4 * count))
    return Trace(tuple(segments), points, tuple(saved), links=(Link("disk", 1e9, 1e9),))


def routed(rng: Random) -> Trace:
    """Random routing: every expert gets no token, few or many."""
    counts = [[rng.choice([0, 60, 100, 250]) for _ in range(EXPERTS)] for _ in range(LAYERS)]
    return mixture(counts)


def planned(trace: Trace) -> Plan:
    """A plan under a tight budget."""
    plan = decide(trace, smallest_budget(trace) + 10**6, effort=1)
    assert not isinstance(plan, Refusal)
    return plan


def seen(trace: Trace) -> list[tuple[SegmentKey, str]]:
    """The segments as the observer reports them."""
    return [(segment.key, segment.content) for segment in trace.segments]


def hits(plans: PlanCache, trace: Trace) -> Iterator[bool]:
    """Whether each storage of a step has a decision when it is saved."""
    for saved in trace.saved:
        yield plans.decision(saved.identity) is not None


def test_a_known_sequence_has_its_plan_at_once() -> None:
    plans = PlanCache()
    one, other = routed(Random(1)), routed(Random(2))
    assert plans.exact(one.sequence) is None
    for trace in (one, other):
        plans.put(trace, planned(trace))
    assert plans.exact(one.sequence) == planned(one)
    assert plans.exact(other.sequence) == planned(other)
    assert (plans.sequences.hits, plans.sequences.misses) == (2, 1)
    with pytest.raises(ValueError, match="for sequence"):
        plans.put(one, planned(other))


def routing_rate(plans: PlanCache, steps: int) -> float:
    """Share of storages over some steps of random routing whose decision was made for them.

    Each step is planned behind its end. A decision for another module's storage is no hit.
    """
    rng = Random(7)
    owner: dict[Identity, str] = {}
    right = asked = 0
    for _ in range(steps):
        trace = routed(rng)
        names = [part.key.module for part in trace.segments if part.key.phase is Phase.FORWARD]
        modules = [name for name in names for _ in range(2)]
        pairs = list(zip(trace.saved, modules, strict=True))
        for (saved, module), hit in zip(pairs, hits(plans, trace), strict=True):
            asked += 1
            right += hit and owner[saved.identity] == module
        plans.put(trace, planned(trace))
        owner.update((saved.identity, module) for saved, module in pairs)
    return right / asked


def test_random_routing_hits() -> None:
    plans = PlanCache()
    assert routing_rate(plans, 200) >= 0.95
    assert plans.decisions.rate >= 0.95
    assert plans.sequences.hits == 0  # no two steps were the same


def test_ordinals_that_run_through_the_step_would_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control for identities: without resynchronisation an idle expert shifts all others."""
    plain = chain

    def shifted(modules: list[tuple[str, int, str]]) -> Trace:
        trace = plain(modules)
        root = SegmentKey(Phase.FORWARD, "")
        return replace(
            trace,
            saved=tuple(
                replace(part, identity=replace(part.identity, segment=root, ordinal=index))
                for index, part in enumerate(trace.saved)
            ),
        )

    monkeypatch.setitem(globals(), "chain", shifted)
    assert routing_rate(PlanCache(), 50) < 0.5


def test_an_expert_without_tokens_shifts_nothing_else() -> None:
    full = mixture([[100] * EXPERTS for _ in range(LAYERS)])
    plans = PlanCache()
    plans.put(full, planned(full))
    idle = mixture([[100] * 3 + [0] + [100] * 4] + [[100] * EXPERTS for _ in range(LAYERS - 1)])
    assert all(hits(plans, idle))
    composed = plans.compose(seen(idle))
    assert composed is not None
    assert composed.unknown == ()
    assert composed.base == full.sequence
    assert composed.plan.sequence == idle.sequence
    assert {line.identity for line in composed.plan.decisions} == {p.identity for p in idle.saved}


def test_places_in_a_segment_that_did_not_run_move_to_the_next() -> None:
    full = mixture([[100, 100, 100]])
    plan = planned(full)
    gone = SegmentKey(Phase.BACKWARD, "layers.0.experts.1")
    line = next(line for line in plan.decisions if line.action is Action.SWAP)
    moved = replace(line, prefetch=At(gone, 1))
    plans = PlanCache()
    others = tuple(moved if part is line else part for part in plan.decisions)
    plans.put(full, replace(plan, decisions=others))
    composed = plans.compose(seen(mixture([[100, 0, 100]])))
    assert composed is not None
    found = composed.plan.by_identity[line.identity]
    assert found.prefetch == At(SegmentKey(Phase.BACKWARD, "layers.0.experts.0"), 0)


def test_a_same_length_different_sequence_is_told_apart() -> None:
    """Same operators in number, other tensors: the length-only detector is fooled, we are not."""
    one = mixture([[100] * EXPERTS for _ in range(LAYERS)])
    other = mixture([[100] * EXPERTS for _ in range(LAYERS)], dtype="bfloat16")
    longer = mixture([[400] * EXPERTS for _ in range(LAYERS)])
    for changed in (other, longer):
        detector = LengthDetector()
        assert detector.changed(one)
        assert not detector.changed(changed)
        plans = PlanCache()
        plans.put(one, planned(one))
        assert plans.exact(changed.sequence) is None
        composed = plans.compose(seen(changed))
        assert composed is None or len(composed.unknown) >= EXPERTS * LAYERS


def test_a_hash_without_content_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with segments told by their names alone, the test above fails."""
    blind = mutated(
        monkeypatch, cache, "at = position.get(seen)", "at = position.get((seen[0], 'x'))"
    )
    one = mixture([[100]])
    assert len(common(seen(one), seen(one))) == len(one.segments)
    assert blind.common(seen(one), seen(one)) == []


@given(st.integers(0, 2**32).map(Random))
@settings(deadline=None, max_examples=80)
def test_the_common_subsequence_is_the_longest(rng: Random) -> None:
    keys = [(SegmentKey(Phase.FORWARD, f"m{number}"), "c") for number in range(9)]
    one = rng.sample(keys, rng.randint(0, 9))
    other = rng.sample(keys, rng.randint(0, 9))
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            match = table[i][j] + 1 if left == right else 0
            table[i + 1][j + 1] = max(match, table[i][j + 1], table[i + 1][j])
    found = common(one, other)
    assert len(found) == table[-1][-1]
    for sequence in (one, other):
        places = [sequence.index(part) for part in found]
        assert places == sorted(places)


def test_the_cache_forgets_the_least_recently_used() -> None:
    plans = PlanCache(sequences=2, segments=10**6)
    traces = [routed(Random(seed)) for seed in range(3)]
    for trace in traces[:2]:
        plans.put(trace, planned(trace))
    assert plans.exact(traces[0].sequence) is not None
    plans.put(traces[2], planned(traces[2]))
    assert len(plans) == 2
    assert plans.exact(traces[1].sequence) is None
    assert plans.exact(traces[0].sequence) is not None


def test_decisions_of_forgotten_segments_go_too() -> None:
    plans = PlanCache(sequences=1, segments=4)
    one, other = mixture([[100]]), chain([("else", 100, "float32"), ("more", 100, "float32")])
    plans.put(one, planned(one))
    assert all(hits(plans, one))
    plans.put(other, planned(other))
    assert not any(hits(plans, one))
    assert plans.compose(seen(one)) is None
