"""Random situations for the tests of decisions: plans with losses, spares and limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from random import Random

from hypothesis import strategies as st

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Link, Profile
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.validate import validate
from ithaca.recovery.strategy import Candidate, Move, Situation
from tests.helpers.layouts import random_profile
from tests.helpers.plans import random_plan, random_ties


def random_situation(rng: Random) -> Situation:
    """A small plan of which some workers are lost, or leave; perhaps spares, perhaps a limit."""
    plan = random_plan(rng, max_layers=6, max_pipelines=3, max_micro_batches=7)
    profile = random_profile(rng, plan.num_layers)
    workers = plan.workers
    lost = frozenset(rng.sample(workers, rng.randint(0, min(len(workers), 3))))
    there = [worker for worker in workers if worker not in lost]
    leaving = frozenset(rng.sample(there, 1)) if there and rng.random() < 0.3 else frozenset()
    newest = max(workers) + 1
    spares = tuple(range(newest, newest + rng.choice([0, 0, 1, 2])))
    holdings = {worker: frozenset(plan.held(worker)) for worker in there}
    for spare in spares:
        if rng.random() < 0.5:
            layers = rng.sample(range(plan.num_layers), rng.randint(1, plan.num_layers))
            holdings[spare] = frozenset(layers)
    checkpoint = rng.choice([None, 3])
    return Situation(
        plan,
        lost,
        holdings,
        profile,
        spares=spares,
        leaving=leaving,
        memory_limit_bytes=rng.choice([None, None, 30_000, 60_000, 200_000]),
        ties=random_ties(rng, plan.num_layers, rng.choice([0, 0, 1])),
        step=5,
        mid_step=rng.random() < 0.5,
        checkpoint_step=checkpoint,
        restore_s=1.0,
        nodes={worker: f"n{worker // 2}" for worker in (*workers, *spares)},
    )


def situations() -> st.SearchStrategy[Situation]:
    """Random situations."""
    return st.integers(0, 2**32).map(lambda seed: random_situation(Random(seed)))


def grid(
    pipelines: int, stages: int, micro_batches: int, layers: int, *, split: bool = True
) -> tuple[Plan, Profile]:
    """``pipelines`` x ``stages`` of equal parts, and a profile of equal layers with free links."""
    share, depth = micro_batches // pipelines, layers // stages
    plan = Plan(
        tuple(
            Pipeline(
                tuple(
                    Stage(Span(k * depth, (k + 1) * depth), p * stages + k) for k in range(stages)
                ),
                tuple(range(p * share, (p + 1) * share)),
            )
            for p in range(pipelines)
        ),
        Schedule.ONE_F_ONE_B,
    )
    layer = Layer(
        "",
        param_bytes=1000,
        grad_bytes=1000,
        state_bytes=2000,
        activation_bytes=1000,
        output_bytes=10,
        forward_s=0.01,
        backward_s=0.02,
        input_s=0.01,
        weight_s=0.01,
        split=split,
    )
    equal = tuple(replace(layer, name=f"layer{number}") for number in range(layers))
    return plan, Profile(equal, Link(1e-6, 1e9), action_s=0.0, add_bytes_per_s=1e15)


def after_losing(
    plan: Plan, profile: Profile, lost: Collection[int], spares: tuple[int, ...] = ()
) -> Situation:
    """What is left of ``plan`` without ``lost``; spares have no state."""
    there = [worker for worker in plan.workers if worker not in lost]
    holdings = {worker: frozenset(plan.held(worker)) for worker in there}
    return Situation(plan, frozenset(lost), holdings, profile, spares=spares)


def check_candidate(one: Candidate, situation: Situation) -> None:
    """A candidate's plan is of those who are there, valid, and reached by its moves."""
    plan = one.plan
    assert plan is not None
    assert not situation.lost.intersection(plan.workers)
    assert set(plan.workers) <= {*situation.survivors, *situation.spares}
    assert plan.num_micro_batches == situation.plan.num_micro_batches
    made = programs(plan, situation.profile.layers, situation.ties)
    validate(made, plan=plan, ties=situation.ties)
    if one.rollback_step is None:
        members = set(plan.workers)
        there = {w: layers for w, layers in situation.there.items() if w in members}
        check_moves(one.moves, plan, there, situation.profile)


def check_moves(
    rounds: tuple[tuple[Move, ...], ...],
    plan: Plan,
    holdings: Mapping[int, frozenset[int]],
    profile: Profile,
) -> None:
    """Exactly what is missing is sent, once, by holders, and no round has a conflict."""
    held = {worker: set(layers) for worker, layers in holdings.items()}
    for round_ in rounds:
        sources = [move.source for move in round_]
        targets = [move.target for move in round_]
        assert len(set(sources)) == len(sources), "a worker sends twice in a round"
        assert len(set(targets)) == len(targets), "a worker receives twice in a round"
        for move in round_:
            layer = profile.layers[move.layer]
            assert move.layer in held.get(move.source, ()), "a worker sends what it does not have"
            assert move.layer not in held.get(move.target, ()), "a layer is sent that is there"
            assert move.size == layer.param_bytes + layer.state_bytes
        for move in round_:
            held.setdefault(move.target, set()).add(move.layer)
    for worker in plan.workers:
        missing = set(plan.held(worker)) - held.get(worker, set())
        assert not missing, f"worker {worker} still lacks {missing}"
    sent = {(move.target, move.layer) for round_ in rounds for move in round_}
    wanted = {(worker, layer) for worker in plan.workers for layer in plan.held(worker)}
    assert sent <= wanted, "a layer is sent to somebody who does not want it"
