"""Memory of Programs: by hand on small ones, and below the search's bound on random ones."""

from __future__ import annotations

from random import Random

import pytest

from ithaca.planner.balance import Balancer, Duty
from ithaca.planner.deal import nodes
from ithaca.planner.layer import Layer
from ithaca.planner.memory import PartialSums, copies, peak_bytes, usage
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.program import Program
from ithaca.planner.schedule import programs, validation_programs
from ithaca.planner.tree import cover
from tests.helpers.layouts import layouts, random_profile

# Every kind of byte has its own digit.
LAYER = Layer("l", 1, 10, 100, 1_000, 10_000)
PROFILE = Profile((LAYER, LAYER))


def test_partial_sums_end_as_the_cover() -> None:
    for total in range(1, 14):
        for seed in range(10):
            ids = Random(seed).sample(range(total), Random(seed).randint(1, total))
            sums = PartialSums(total)
            additions = sum(sums.add(micro_batch) for micro_batch in ids)
            assert sums.nodes == set(cover(ids, total))
            assert additions == len(ids) - len(sums.nodes)


def test_copies_are_a_binary_counter() -> None:
    assert copies(range(8), 8) == (1, 2, 2, 3, 2, 3, 3, 4)
    assert max(copies(range(64), 64)) == 7
    assert copies([7, 6, 5, 4], 8) == (1, 2, 2, 3)
    assert copies([0, 3, 5], 8) == (1, 2, 3)


def test_one_worker_by_hand() -> None:
    plan = Plan.parse("plan generation=0 schedule=gpipe\npipeline 0-1 0:2@w0\n")
    used = usage(programs(plan)[0], PROFILE)
    assert used.parameters == 2
    assert used.state == 200
    assert used.activations == 4_000  # both micro-batches before the first B
    assert used.boundaries == 0
    # Two leaves together, then their sum; then the reduced gradient beside the sum.
    assert used.gradients == 40
    assert used.peak == 202 + 4_000 + 20  # at the first B: all activations, one gradient
    one_by_one = Plan.parse(str(plan).replace("gpipe", "1f1b"))
    assert peak_bytes(programs(one_by_one)[0], PROFILE) == 202 + 2_000 + 40


def test_stages_keep_what_crossed_their_cuts() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:1@w0 1:2@w1\n")
    made = programs(plan)
    for worker in (0, 1):
        assert usage(made[worker], PROFILE).boundaries == 2 * 2 * 10_000


def test_replicas_receive_chunks_of_partial_sums() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0,2 0:2@w0\npipeline 1,3 0:2@w1\n")
    made = programs(plan)
    # Ids 0 and 2 are no node: two copies; then the result and 4 chunks of half the gradient.
    assert usage(made[0], PROFILE).gradients == 2 * 20 + 20 + 4 * 10
    assert usage(made[0], PROFILE, exact=False).gradients == 20 + 2 * 10


def test_validation_holds_neither_state_nor_activations_for_long() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\n")
    used = usage(validation_programs(plan, 5)[0], PROFILE)
    assert (used.state, used.gradients, used.activations) == (0, 0, 1_000)


def test_a_profile_of_other_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="the program has 3 layers, the profile 2"):
        usage(Program(0, 0, 3, 1, ()), PROFILE)


@pytest.mark.parametrize("exact", [True, False])
def test_the_bound_of_the_search_is_one(exact: bool) -> None:
    loose = []
    for seed in range(12):
        rng = Random(seed)
        profile, schedule = random_profile(rng, rng.randint(1, 5)), rng.choice(list(Schedule))
        total, workers = rng.randint(1, 9), rng.randint(1, 4)
        balancer = Balancer(profile, schedule, exact=exact)
        every = list(layouts(len(profile.layers), workers, total, schedule))
        for plan in rng.sample(every, min(8, len(every))):
            made = programs(plan, profile.layers)
            left = {
                p: nodes(p.micro_batches[0], p.micro_batches[-1] + 1, total) for p in plan.pipelines
            }
            for pipeline in plan.pipelines:
                duty = Duty(
                    len(pipeline.stages),
                    len(pipeline.micro_batches),
                    copies(pipeline.micro_batches, total),
                    left[pipeline],
                    len(plan.pipelines),
                    sum(left.values()),
                )
                for place, stage in enumerate(pipeline.stages):
                    bound = balancer.bytes_of(duty, place)[stage.layers.first, stage.layers.last]
                    peak = peak_bytes(made[stage.worker], profile, exact=exact)
                    assert peak <= bound
                    loose.append(bound / peak)
    assert sum(loose) / len(loose) < 1.15
