"""The lower bound: below every schedule, and equal to brute force on the problem that it states.

Equal means: with whole storages (``whole=True``) its optimum is the one found by trying every
assignment of keep, swap and replay to the storages, and for each every way of spending ticks on
waiting and of reading early; copies are fluid in both. Without ``whole`` it is at or below that,
and equal wherever its own optimum splits nothing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.swap import bound
from ithaca.swap.bound import Bound, lower_bound
from ithaca.swap.columns import Columns
from ithaca.swap.model import forecast, predict
from ithaca.swap.policy import Refusal, decide, smallest_budget
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link, Recipe, Replay, Trace
from tests.helpers.fluid_search import fewest_ticks
from tests.helpers.memory_traces import random_trace
from tests.helpers.mutated import mutated
from tests.unit.swap.test_swap_model import random_schedule

SEEDS = st.integers(0, 2**32).map(Random)


def below_everything(rng: Random) -> None:
    """The bound is at or below the time of any schedule, and of the policy's."""
    trace = random_trace(rng)
    # A random schedule does not look at the room of tiers; the policy's does.
    roomy = replace(trace, links=tuple(replace(p, capacity_bytes=None) for p in trace.links))
    schedule = random_schedule(rng, roomy)
    assert schedule is not None
    result = forecast(schedule)
    least = lower_bound(roomy, result.peak_bytes)
    assert least is not None
    assert least.step_s <= result.step_s * (1 + 1e-6) + 1e-9
    budget = smallest_budget(trace) + rng.choice([0, 100])
    plan, least = decide(trace, budget), lower_bound(trace, budget)
    assert not isinstance(plan, Refusal)
    assert least is not None
    assert least.step_s <= predict(trace, plan).step_s * (1 + 1e-6) + 1e-9


@given(SEEDS)
@settings(deadline=None, max_examples=100)
def test_no_schedule_is_faster_than_the_bound(rng: Random) -> None:
    below_everything(rng)


def whole_numbers(rng: Random, storages: int, replays: bool) -> Trace:
    """A trace in bytes of one to three, ticks, and one link of a byte a tick."""
    trace = random_trace(rng, storages, states=False, held=False, tiers=0, replays=False)
    saved = tuple(replace(part, nbytes=rng.randint(1, 3)) for part in trace.saved)
    points = tuple(
        replace(
            part, seconds=rng.choice([0, 0, 1, 2]), base_bytes=3, workspace_bytes=rng.choice([0, 1])
        )
        for part in trace.points
    )
    again = []
    for number in range(rng.randint(1, 2) * replays):
        outputs = sorted(rng.sample(range(len(saved)), min(len(saved), rng.randint(1, 2))))
        inputs = tuple(sorted(rng.sample(range(outputs[0]), min(outputs[0], rng.randint(0, 1)))))
        seconds = float(rng.randint(0, 3))
        again.append(Replay(f"r{number}", Recipe.BLOCK, seconds, tuple(outputs), inputs))
    link = Link("disk", 1.0, 1.0)
    return replace(trace, points=points, saved=saved, replays=tuple(again), links=(link,))


def tight(rng: Random, trace: Trace) -> int:
    """A budget between all away and all there."""
    least = smallest_budget(replace(trace, replays=()))
    most = int(Columns.of(trace).keep_all().max())
    return rng.randint(least, max(least, most - 1))


def equals_brute_force(rng: Random, storages: int, replays: bool) -> None:
    """The bound for whole storages is what trying everything finds."""
    trace = whole_numbers(rng, storages, replays)
    budget = tight(rng, trace)
    ticks = fewest_ticks(trace, budget)
    whole, split = (lower_bound(trace, budget, whole=kind) for kind in (True, False))
    assert ticks is not None
    assert whole is not None
    assert split is not None
    alone = sum(point.seconds for point in trace.points)
    assert whole.step_s == pytest.approx(alone + ticks, abs=1e-5)
    assert split.step_s <= whole.step_s + 1e-6


@given(SEEDS)
@settings(deadline=None, max_examples=40)
def test_whole_storages_equal_brute_force(rng: Random) -> None:
    equals_brute_force(rng, 5, True)


@pytest.mark.parametrize("seed", range(4))
def test_eight_storages_equal_brute_force(seed: int) -> None:
    equals_brute_force(Random(seed), 8, False)


def test_replays_alone_are_a_knapsack() -> None:
    """Without a link the split optimum takes replays by seconds per byte, the last in part."""
    trace = Transformer(4, 64, 192, sequence=32, batch=2).trace()
    cheap = tuple(part for part in trace.replays if part.recipe is Recipe.CHEAP)
    trace = replace(trace, replays=tuple(replace(part, inputs=()) for part in cheap))
    columns = Columns.of(trace)
    levels = columns.keep_all()
    peak = int(levels.argmax())
    excess = 100_000
    budget = int(levels.max()) - excess
    rates = []
    for part in trace.replays:
        nbytes = sum(
            trace.saved[i].nbytes
            for i in part.outputs
            if trace.saved[i].released_at is not None
            and (trace.saved[i].released_at or 0) <= peak < trace.saved[i].first_backward_use
        )
        if nbytes:
            rates.append((part.seconds / nbytes, nbytes))
    expected = 0.0
    for rate, nbytes in sorted(rates):
        taken = min(nbytes, excess)
        expected += rate * taken
        excess -= taken
    least = lower_bound(trace, budget)
    assert least is not None
    # Other points near the peak can only add to it, and here they do not.
    assert least.step_s - columns.clock[-1] == pytest.approx(expected, rel=1e-6)


def test_there_is_no_bound_where_nothing_fits() -> None:
    trace = Transformer(2, 64, 192).trace([Link("disk", 1e9, 1e9)])
    assert lower_bound(trace, 1000) is None
    most = int(Columns.of(trace).keep_all().max())
    alone = float(Columns.of(trace).clock[-1])
    assert lower_bound(trace, most) == Bound(alone, 0.0, 0.0, False)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_more_room_never_raises_the_bound(rng: Random) -> None:
    trace = random_trace(rng)
    least = smallest_budget(trace)
    times = [
        found.step_s
        for extra in (0, 30, 100, 400)
        if (found := lower_bound(trace, least + extra)) is not None
    ]
    assert len(times) == 4
    assert all(one >= other - 1e-9 for one, other in pairwise(times))


def caught(seeds: range) -> bool:
    """Whether one of the comparisons fails on some fixed traces."""
    for seed in seeds:
        try:
            below_everything(Random(seed))
            equals_brute_force(Random(seed), 4, True)
        except AssertionError:
            return True
    return False


def test_the_comparisons_pass_without_a_mutation() -> None:
    assert not caught(range(25))


MUTATIONS = {
    "a link of half the speed": ("limit = speed * float(seconds[j])", "limit = 0.5 * speed * 0"),
    "replays for nothing": ("replay.seconds / self._second", "0.0"),
    "memory that is not looked at": ("rows.add(terms, -_INF, float(self.room[j]))", "pass"),
    "room before the write": ("(given[j], 1.0), (written[j], -1.0)", "(given[j], 0.0)"),
    "nothing has to be read": ("(read[j], 1.0), (needed[j], -1.0)", "(read[j], 1.0)"),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutated_bound_is_caught(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = mutated(monkeypatch, bound, *MUTATIONS[what])
    monkeypatch.setitem(globals(), "lower_bound", changed.lower_bound)
    assert caught(range(60))


def test_the_schedules_that_it_is_compared_with_do_move_things() -> None:
    moved = 0
    for seed in range(20):
        schedule = random_schedule(Random(seed), random_trace(Random(seed)))
        moved += schedule is not None and bool((schedule.choice.action > 0).any())
    assert moved > 10
