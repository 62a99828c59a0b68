"""Over many plans the validator and an in-memory run agree: both are right, or both say no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random

import pytest
import torch
from hypothesis import given, settings

from ithaca.planner.program import Program
from ithaca.planner.schedule import programs
from ithaca.planner.tree import Node
from ithaca.planner.validate import ProgramError, validate
from ithaca.runtime.engine import interpreter, reduction
from ithaca.runtime.engine.partials import Partials
from ithaca.runtime.engine.tags import Tags
from tests.helpers.mutants import MUTATIONS, Mutation, mutant, swap
from tests.helpers.plans import Case, cases, random_case, random_plan, random_ties
from tests.helpers.toy_machine import faults, run

PARTS, SMALL, LARGE = 16, 625, 5
"""10,080 plans, in parts that test processes can share."""
MUTANTS = 100


@pytest.fixture(autouse=True)
def _without_autograd() -> Iterator[None]:
    with torch.no_grad():
        yield


def small_case(rng: Random) -> Case:
    """A plan of few layers and micro-batches, so that thousands run in seconds."""
    plan = random_plan(rng, max_layers=rng.choice([3, 3, 4]), max_pipelines=3, max_micro_batches=4)
    ties = random_ties(rng, plan.num_layers, rng.choice([0, 0, 0, 1, 2]))
    return Case(plan, ties, tuple(rng.random() < 0.8 for _ in range(plan.num_layers)))


def schedule(case: Case) -> dict[int, Program]:
    """The training step of ``case``."""
    return programs(case.plan, ties=case.ties, split=case.split)


def outcome(case: Case, found: Mapping[int, Program], rng: Random) -> list[str]:
    """What goes wrong when ``found`` runs, with delays and costs drawn from ``rng``."""
    held = {worker: list(case.plan.held(worker)) for worker in case.plan.workers}
    machines, tallies = run(found, held, lambda _: rng.random(), lambda *_: rng.random())
    return faults(found, machines, tallies, held, case.ties)


@pytest.mark.parametrize("part", range(PARTS))
def test_valid_programs_run_to_the_right_result(part: int) -> None:
    for number in range(SMALL + LARGE):
        rng = Random(part * 1_000_000 + number)
        case = small_case(rng) if number < SMALL else random_case(rng)
        found = schedule(case)
        validate(found, plan=case.plan, ties=case.ties)
        assert outcome(case, found, rng) == [], f"seed {part} {number}: {case}"


@settings(max_examples=40, deadline=None)
@given(cases())
def test_any_case_runs_to_the_right_result(case: Case) -> None:
    found = schedule(case)
    validate(found, plan=case.plan, ties=case.ties)
    assert outcome(case, found, Random(0)) == []


def breaks(case: Case, found: Mapping[int, Program], rng: Random) -> bool:
    """Whether a run of ``found`` stops, loses or repeats something, or has another result."""
    try:
        return bool(outcome(case, found, rng))
    except (RuntimeError, ValueError, LookupError, AssertionError):
        return True


def refusal(case: Case, found: Mapping[int, Program]) -> str:
    """Why the validator refuses ``found``; empty if it does not."""
    try:
        validate(found, plan=case.plan, ties=case.ties)
    except ProgramError as error:
        return str(error)
    return ""


HARMLESS_HERE = {
    "duplicate": ("twice", "has been reduced before", "only STEP may follow COMMIT"),
    "swap": ("is not here yet", "deadlock"),
    "misshare": ("shares must cover", "computed here"),
}
"""What the validator refuses although this engine gets it right: a sum made twice, a receive that
stands too late but is posted ahead, a send that would block elsewhere, and a false word about the
gradients that a worker itself brings."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_mutants_are_refused_where_they_break(mutation: Mutation) -> None:
    seen: Counter[str] = Counter()
    for seed in range(MUTANTS):
        rng = Random(seed)
        case = small_case(rng)
        original = schedule(case)
        found = mutant(rng, original, mutation)
        if found == original:
            continue
        reason, broken = refusal(case, found), breaks(case, found, rng)
        assert reason or not broken, f"seed {seed}: accepted, but it breaks: {found}"
        seen["broken" if broken else "harmless" if reason else "accepted"] += 1
        if reason and not broken:
            allowed = HARMLESS_HERE.get(mutation.__name__, ())
            assert any(words in reason for words in allowed), f"seed {seed}: {reason}"
    assert seen["broken"] >= MUTANTS / 4, f"hardly any mutant was one: {seen}"
    assert (seen["accepted"] > 0) == (mutation is swap), seen


def sequential(nodes: Mapping[Node, torch.Tensor], _: int, __: object) -> torch.Tensor:
    """Partial sums one after the other instead of in the tree."""
    return torch.stack([nodes[node] for node in sorted(nodes)]).cumsum(0)[-1]


def one_tag(tags: Tags, action: object) -> int:
    """The same tag for every transfer."""
    return 0


def forgetful(partials: Partials[object], micro_batch: int, gradient: object) -> None:
    """Counts micro-batch 0 for every other one, too."""
    ORIGINAL_PUT(partials, micro_batch, gradient)
    for other in range(1, partials._num_micro_batches):
        if micro_batch == 0:
            ORIGINAL_PUT(partials, other, gradient)


ORIGINAL_PUT = Partials.put


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (reduction, "evaluate", sequential),
        (Tags, "transfer", one_tag),
        (interpreter, "_needs", lambda *_: []),
        (Partials, "put", forgetful),
    ],
    ids=["sequential sum", "one tag", "no waiting", "repeated gradient"],
)
def test_the_run_notices_a_wrong_engine(
    owner: object, name: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    noticed = 0
    for seed in range(60):
        rng = Random(seed)
        case = random_case(rng)
        noticed += breaks(case, schedule(case), rng)
    assert noticed
