"""The same bits on every layout, under every schedule, with any delays, and after a resume (I4)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import pytest

from ithaca.planner.plan import Plan, Schedule
from ithaca.runtime.engine.trainer import EngineSettings
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import ADAMW, BF16, EXACT, Record, VirtualJob, layout

STEPS = 2
DENSE = Options()
TIED = Options(tied=True)
EXPERTS = Options(kinds=("block", "experts", "block", "experts"))
EVERYTHING = Options(kinds=("pair", "unpair", "experts", "slice"), tied=True)
AWKWARD = Options(kinds=("twins", "block", "nothing", "twins"))
RAGGED = Options(kinds=("block", "pair", "unpair", "experts"), ragged=True)
GPIPE, PLAIN, SPLIT = Schedule
LAYOUTS = {
    "1x2": (2,),
    "2x1": (1, 1),
    "2x2": (2, 2),
    "4x1": (1, 1, 1, 1),
    "4x2": (2, 2, 2, 2),
    "3 and 2": (3, 2),
}
"""Stages of each pipeline."""


def workload(options: Options, micro_batches: int) -> Small:
    """The small model of ``options``."""
    return Small(options, seed=3, micro_batches=micro_batches)


def job(options: Options, plan: Plan, settings: EngineSettings = EXACT) -> VirtualJob:
    """A job of ``options`` on ``plan``."""
    return VirtualJob(workload(options, plan.num_micro_batches), plan, settings)


@cache
def alone(options: str, settings: EngineSettings = EXACT, micro_batches: int = 8) -> list[Record]:
    """What one worker gets for the options with this JSON text."""
    parsed = Options.model_validate_json(options)
    plan = layout(len(parsed.kinds) + 2, (1,), micro_batches, GPIPE)
    return job(parsed, plan, settings).run(STEPS)


@pytest.mark.parametrize(
    "options", [DENSE, TIED, EXPERTS], ids=["dense", "tied", "mixture of experts"]
)
@pytest.mark.parametrize("settings", [EXACT, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stages", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_bits(
    stages: tuple[int, ...], settings: EngineSettings, options: Options
) -> None:
    turn = list(LAYOUTS.values()).index(stages) + [DENSE, TIED, EXPERTS].index(options)
    schedule = list(Schedule)[(turn + (settings is BF16)) % 3]
    found = job(options, layout(6, stages, 8, schedule), settings).run(STEPS)
    expected = alone(options.model_dump_json(), settings)
    assert found == expected
    assert len({record.hashes for record in expected}) == STEPS, "the steps change nothing"
    assert all(record.norm > (ADAMW.clip or 0) for record in expected), "nothing is clipped"


@pytest.mark.parametrize(
    ("options", "stages", "schedule", "settings", "micro_batches"),
    [
        (EVERYTHING, (2, 2), SPLIT, EXACT, 8),
        (EVERYTHING, (3, 2), PLAIN, BF16, 5),
        (EVERYTHING, (1, 1, 1), GPIPE, EXACT, 7),
        (EVERYTHING, (6, 1), SPLIT, BF16, 6),
        (AWKWARD, (1, 1, 1, 1), PLAIN, EXACT, 5),
        (AWKWARD, (3, 2), SPLIT, EXACT, 8),
        (AWKWARD, (2,), SPLIT, BF16, 6),
        (RAGGED, (2, 2, 2, 2), PLAIN, EXACT, 8),
        (RAGGED, (3, 2), SPLIT, EXACT, 7),
        (RAGGED, (1, 1), GPIPE, BF16, 5),
        (DENSE, (2, 3), SPLIT, EXACT, 5),
        (TIED, (3, 1, 2), SPLIT, EXACT, 7),
        (EXPERTS, (1, 4), SPLIT, BF16, 6),
        (DENSE, (1, 1, 1, 1), GPIPE, EXACT, 3),
        (TIED, (6,), SPLIT, EXACT, 1),
    ],
)
def test_other_models_and_micro_batches_do_too(
    options: Options,
    stages: tuple[int, ...],
    schedule: Schedule,
    settings: EngineSettings,
    micro_batches: int,
) -> None:
    found = job(options, layout(6, stages, micro_batches, schedule), settings).run(STEPS)
    assert found == alone(options.model_dump_json(), settings, micro_batches)


UNEQUAL = """plan generation=3 schedule=1f1b
pipeline 0,2-5,7 0:1@w4 1:4@w2 4:6@w0
pipeline 1,6 0:6@w3
"""
IDLE = """plan generation=0 schedule=1f1b-split
pipeline 0-6 0:3@w0 3:6@w1
pipeline - 0:2@w2 2:6@w5
pipeline 7 0:4@w3 4:6@w4
"""
ROUTED = """plan generation=9 schedule=1f1b
pipeline 0-3 0:3@w0 3:6@w1
pipeline 4-7 0:3@w2 3:6@w3
route m1 0:3@w2
route m2 3:6@w3
route m5 3:6@w1
route m4 0:3@w0
route m6 0:3@w0
route m6 3:6@w1
"""


@pytest.mark.parametrize("text", [UNEQUAL, IDLE, ROUTED], ids=["unequal", "idle", "routed"])
@pytest.mark.parametrize("options", [TIED, EVERYTHING], ids=["tied", "everything"])
def test_unequal_shares_and_detours_give_the_same_bits(text: str, options: Options) -> None:
    assert job(options, Plan.parse(text)).run(STEPS) == alone(options.model_dump_json())


@pytest.mark.parametrize("seed", range(3))
def test_delays_change_nothing(seed: int) -> None:
    rng = Random(seed)
    plan = layout(6, (3, 2), 8, list(Schedule)[seed])
    options = RAGGED if seed else TIED
    slow = VirtualJob(
        workload(options, 8), plan, EXACT, lambda _: rng.random(), lambda *_: rng.random()
    )
    assert slow.run(STEPS) == alone(options.model_dump_json())
    assert slow.cluster.now > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_resume_on_another_layout_changes_nothing(seed: int) -> None:
    rng = Random(seed)
    options, settings = rng.choice([(TIED, EXACT), (EXPERTS, BF16), (DENSE, EXACT)])
    steps = 3
    unbroken = job(options, layout(6, (1,)), settings).run(steps)
    first, second = rng.sample(list(LAYOUTS.values()), 2)
    stop = rng.randint(1, steps - 1)
    before = job(options, layout(6, first, 8, rng.choice(list(Schedule))), settings)
    records = before.run(stop)
    after = job(options, layout(6, second, 8, rng.choice(list(Schedule))), settings)
    after.restore(before.states(), stop)
    assert records + after.run(steps - stop) == unbroken


def test_what_must_differ_differs() -> None:
    """Seed, clipping and precision show in the hashes: they are not constants."""
    plan = layout(6, (1,))
    text = DENSE.model_dump_json()
    unclipped = replace(EXACT, optimizer=replace(ADAMW, clip=None))
    others = [job(DENSE, plan, s) for s in (replace(EXACT, seed=8), unclipped, BF16)]
    hashes = {alone(text)[0].hashes, *(other.step().hashes for other in others)}
    assert len(hashes) == 4
