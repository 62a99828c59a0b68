"""Controls of the exactness tests: engines that are not exact, and seen not to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

from ithaca.planner.tree import Node
from ithaca.runtime.engine import autograd, reduction
from ithaca.runtime.engine.ballot import Ballot
from ithaca.runtime.engine.partials import Partials
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.engine.trainer import EngineSettings
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import EXACT, FAST, Record, VirtualJob, layout

DENSE = Options(kinds=("block", "block"))


def records(
    stages: tuple[int, ...], options: Options = DENSE, settings: EngineSettings = EXACT
) -> list[Record]:
    """Two steps of a small job of 8 micro-batches."""
    plan = layout(len(options.kinds) + 2, stages, 8)
    return VirtualJob(Small(options, seed=3, micro_batches=8), plan, settings).run(2)


def exact(options: Options, *layouts: tuple[int, ...]) -> bool:
    """The oracle: whether all layouts give the records of a single worker, and replicas agree."""
    alone = records((1,), options)
    try:
        return all(records(stages, options) == alone for stages in layouts)
    except AssertionError:
        return False


def test_fast_differs() -> None:
    alone = records((1,))
    assert records((1, 1, 1, 1)) == alone
    assert records((1, 1, 1, 1), settings=FAST) != alone


def one_by_one(nodes: Mapping[Node, Tensor]) -> Tensor:
    """The sum in the order of ``nodes``."""
    first, *others = nodes.values()
    total = first.clone()
    for other in others:
        total += other
    return total


def sequential(nodes: Mapping[Node, Tensor], _: int, __: object) -> Tensor:
    """Worker after worker, not in the tree."""
    return one_by_one(dict(sorted(nodes.items())))


def as_they_come(nodes: Mapping[Node, Tensor], _: int, __: object) -> Tensor:
    """This worker's own first, then the others'."""
    return one_by_one(nodes)


def running_sum(partials: Partials[list[Tensor]], micro_batch: int, gradient: list[Tensor]) -> None:
    """One accumulator for all micro-batches of a worker, as plain PyTorch does it."""
    held = partials._nodes
    if not held:
        held[micro_batch, micro_batch + 1] = gradient
        return
    ((low, high), total) = held.popitem()
    assert high == micro_batch, "in order"
    held[low, micro_batch + 1] = [a + b for a, b in zip(total, gradient, strict=True)]


def unkeyed(*_: object) -> None:
    """Random numbers go on where the last ones stopped."""


def local_means(ballot: Ballot) -> Any:  # noqa: ANN401 - numpy's
    """Losses scaled by what this worker computed, as if every worker had the same share."""
    packed = PACK(ballot)
    rows = ballot._views(packed)[1]
    rows[:, 1] *= 1 + 1e-12 * len(ballot.losses)
    return packed


PACK = Ballot.pack


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "stages"),
    [
        (reduction, "evaluate", sequential, (1, 1, 1, 1)),
        (reduction, "evaluate", as_they_come, (1, 1, 1, 1)),
        (Partials, "put", running_sum, (1, 1)),
        (Randomness, "forward", unkeyed, (1, 1)),
        (Randomness, "weights", unkeyed, (1, 1)),
        (Ballot, "pack", local_means, (1, 1)),
    ],
    ids=[
        "sum in worker order",
        "sum in order of arrival",
        "running sum",
        "dropout without keys",
        "weights without keys",
        "losses by worker",
    ],
)
def test_a_mutation_is_noticed(
    owner: object,
    name: str,
    wrong: Callable[..., Any],
    stages: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert exact(DENSE, stages)
    monkeypatch.setattr(owner, name, wrong)
    assert not exact(DENSE, stages)


def test_gradients_in_shared_memory_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Options(kinds=("twins", "block"))
    assert exact(twins, (1,) * 8)
    monkeypatch.setattr(autograd, "own", lambda gradients, _: list(gradients))
    assert not exact(twins, (1,) * 8)
