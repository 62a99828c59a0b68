"""What every in-memory drill needs: toy runs, their undisturbed results, seeded choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from random import Random

from ithaca.planner.layer import Layer
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.profile import Profile
from ithaca.planner.program import Op
from ithaca.planner.span import Span
from ithaca.recovery.decide import Decision, decide, ending
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.moves import moves
from ithaca.recovery.strategy import Candidate, Situation, StrategyName
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.steps import Request
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.toy_stepper import ToyStepper
from tests.helpers.virtual_job import layout
from tests.helpers.virtual_run import Faults, Hashes, VirtualRun

LAYERS = 6
PROFILE = Profile(
    tuple(
        Layer(f"l{i}", 160, 160, 320, 80, 40, 1e-3, 2e-3, 1e-3, 1e-3, 1e-4, split=i != 1)
        for i in range(LAYERS)
    )
)
SPLIT = tuple(layer.split for layer in PROFILE.layers)


@dataclass(frozen=True)
class Case:
    """A job of the drills: the same numbers whatever its plan is."""

    plan: Plan
    steps: int
    ties: tuple[tuple[int, int], ...] = ()


def case(
    stages: tuple[int, ...],
    schedule: Schedule = Schedule.ONE_F_ONE_B,
    steps: int = 3,
    micro_batches: int = 4,
    ties: tuple[tuple[int, int], ...] = (),
) -> Case:
    """Pipelines of so many stages each."""
    return Case(layout(LAYERS, stages, micro_batches, schedule), steps, ties)


def any_answer(rng: Random, profile: Profile = PROFILE) -> Callable[[Situation], Decision]:
    """Any plan that is possible, not only a good one, with whatever moves it takes."""

    def choose(situation: Situation) -> Decision:
        finish = ending(situation)
        if situation.orphans or (finish is None and situation.mid_step):
            return best(situation)
        plan = finish if finish is not None and rng.random() < 0.4 else any_plan(rng, situation)
        rounds = moves(plan, situation.holdings, profile)
        chosen = Candidate(StrategyName.RESHAPE, plan, rounds)
        return Decision(chosen, (), "drawn", finish=finish)

    return choose


def any_plan(rng: Random, situation: Situation) -> Plan:
    """Random pipelines over some of those who are there, with random second holders."""
    workers = list(situation.available)
    rng.shuffle(workers)
    count = situation.plan.num_micro_batches
    pipelines: list[tuple[Stage, ...]] = []
    while workers and (not pipelines or (len(pipelines) < count and rng.random() < 0.7)):
        length = min(len(workers), rng.choice([1, 1, 2, 3]))
        borders = [0, *sorted(rng.sample(range(1, LAYERS), length - 1)), LAYERS]
        spans = [Span(low, high) for low, high in pairwise(borders)]
        pipelines.append(tuple(Stage(span, workers.pop()) for span in spans))
    cuts = sorted(rng.randint(0, count) for _ in pipelines[1:])
    shares = [range(low, high) for low, high in pairwise([0, *cuts, count])]
    second = [Stage(Span(0, LAYERS), worker) for worker in workers if rng.random() < 0.5]
    return Plan(
        tuple(Pipeline(stages, tuple(ids)) for stages, ids in zip(pipelines, shares, strict=True)),
        rng.choice(list(Schedule)),
        situation.plan.generation + 1,
        shadows=tuple(second),
    )


def best(situation: Situation) -> Decision:
    """What a run would decide."""
    return _decision(_Key.of(situation))


def steady(situation: Situation) -> Decision:
    """The first reroute: everybody keeps what it holds."""
    decision = _decision(_Key.of(situation))
    for scored in decision.candidates:
        if scored.candidate.strategy is StrategyName.REROUTE and scored.candidate.feasible:
            return replace(decision, chosen=scored.candidate)
    return decision


@dataclass(frozen=True)
class _Key:
    """A situation without what does not matter to the answer."""

    plan: str
    lost: frozenset[int]
    holdings: tuple[tuple[int, frozenset[int]], ...]
    spares: tuple[int, ...]
    ties: tuple[tuple[int, int], ...]
    mid_step: bool
    checkpoint_step: int | None

    @classmethod
    def of(cls, s: Situation) -> _Key:
        plan = str(replace(s.plan, generation=0))
        holdings = tuple(sorted(s.holdings.items()))
        return cls(plan, s.lost, holdings, s.spares, s.ties, s.mid_step, s.checkpoint_step)


@cache
def _decision(key: _Key) -> Decision:
    situation = Situation(
        plan=Plan.parse(key.plan),
        lost=key.lost,
        holdings=dict(key.holdings),
        profile=PROFILE,
        spares=key.spares,
        ties=key.ties,
        mid_step=key.mid_step,
        step=1,
        checkpoint_step=key.checkpoint_step,
        restore_s=10.0,
    )
    return decide(situation, Hazard())


def start(
    job: Case,
    faults: Faults | None = None,
    rng: Random | None = None,
    choose: Callable[[Situation], Decision] = steady,
) -> VirtualRun[ToyStepper]:
    """A run that has not begun; with ``rng`` messages and computes take random times."""
    run = VirtualRun(
        lambda _, layers: ToyStepper(layers),
        job.plan,
        PROFILE,
        faults or Faults(),
        ties=job.ties,
        split=SPLIT,
        choose=choose,
    )
    if rng is not None:
        run.delay = lambda _: rng.random()
        run.cost = lambda *_: rng.random()
    return run


@cache
def undisturbed(job: Case) -> tuple[dict[int, Hashes], dict[int, Tally]]:
    """Hashes and tallies of every step without a fault; on another layout, which must not show."""
    micro_batches = job.plan.num_micro_batches
    whole = start(replace(job, plan=layout(LAYERS, (1,), micro_batches)))
    whole.run(job.steps)
    return whole.results, whole.tallies


def assert_no_trace(run: VirtualRun[ToyStepper], job: Case) -> None:
    """Every step has the hashes, loss and samples of the undisturbed run (I3, I4)."""
    results, tallies = undisturbed(job)
    assert run.results == results
    assert run.tallies == tallies


def killer(worker: int, number: int) -> Callable[[int, int, Request], Verdict]:
    """Kills ``worker`` at its point ``number``."""
    seen: Counter[int] = Counter()

    def watch(who: int, _step: int, _request: Request) -> Verdict:
        seen[who] += 1
        return Verdict.KILL if who == worker and seen[who] == number else Verdict.GO_ON

    return watch


def computed(run: VirtualRun[ToyStepper], step: int) -> Counter[tuple[Op, int, int]]:
    """How often survivors computed each (op, layer, micro-batch) of a step."""
    total: Counter[tuple[Op, int, int]] = Counter()
    for stepper in run.steppers.values():
        total.update(stepper.ledger.get(step, Counter()))
    return total
