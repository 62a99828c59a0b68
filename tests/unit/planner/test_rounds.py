"""Reductions that share no worker run side by side, and every worker has them in one order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.rounds import Piece, rounds
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span

LAYERS = 24


def unequal() -> Plan:
    """Pipelines of 8 and 6 stages: every reduction shares a worker with the next one."""
    pipelines, worker = [], 0
    for stages, ids in ((8, range(8)), (6, range(8, 16))):
        size = LAYERS // stages
        spans = [Span(k * size, (k + 1) * size) for k in range(stages)]
        pipelines.append(
            Pipeline(tuple(Stage(s, worker + k) for k, s in enumerate(spans)), tuple(ids))
        )
        worker += stages
    return Plan(tuple(pipelines))


def test_neighbours_do_not_wait_for_each_other_in_a_chain() -> None:
    layers = tuple(Layer(str(k), grad_bytes=10**6) for k in range(LAYERS))
    profile = Profile(layers, Link(0.0, 1e6), action_s=0.0, add_bytes_per_s=float("inf"))
    step_s = simulate(programs(unequal()), profile, exact=False).step_s
    # Everything of the busiest worker takes 4 s (two workers: each byte goes and comes once). One
    # after the other all layers would take 24 s.
    assert 4.0 <= step_s < 9.0


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sets(st.integers(0, 5), min_size=1)), min_size=1, max_size=9
    )
)
def test_every_piece_once_and_none_before_it_could_start(
    drawn: list[tuple[int, set[int]]],
) -> None:
    pieces = [Piece(k, k + 1, ready, tuple(who)) for k, (ready, who) in enumerate(drawn)]
    order = rounds(pieces)
    assert sorted(piece.first for piece in order) == list(range(len(pieces)))
    free: dict[object, float] = {}
    last = 0.0
    for piece in order:
        start = max(piece.ready, *(free.get(member, 0.0) for member in piece.members))
        assert start >= last
        last = start
        free.update(dict.fromkeys(piece.members, start + 1))


def test_without_shared_workers_the_order_is_that_of_readiness() -> None:
    pieces = [Piece(k, k + 2, ready, (k,)) for k, ready in ((0, 3.0), (2, 1.0), (4, 3.0))]
    assert [piece.first for piece in rounds(pieces)] == [2, 4, 0]
