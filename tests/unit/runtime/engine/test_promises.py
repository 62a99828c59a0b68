"""What the engine refuses to take on trust: shares, reduced layers, ties."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.planner.program import Reduce, Share
from ithaca.runtime.engine.ballot import Ballot
from ithaca.runtime.engine.held import Model
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.workload import TiedWeights
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import VirtualJob, layout


def test_a_reduce_that_promises_other_micro_batches_is_refused() -> None:
    job = VirtualJob(Small(Options(), seed=1, micro_batches=4), layout(6, (1, 1), 4))
    program = job.programs[0]
    swapped = tuple(
        replace(a, shares=(Share(0, (2, 3)), Share(1, (0, 1)))) if isinstance(a, Reduce) else a
        for a in program.actions
    )
    job.programs[0] = replace(program, actions=swapped)
    with pytest.raises(ValueError, match="promises the sums"):
        job.step()


def test_a_layer_that_nobody_reduced_is_noticed() -> None:
    ballot = Ballot(2, 1, 0, losses={0: (1.0, 1, 1)}, squares={0: 1.0})
    with pytest.raises(ValueError, match=r"gradients of layers \[1\]"):
        ballot.tally([ballot.pack()])


def test_a_no_is_a_no_whatever_else_is_missing() -> None:
    ballot = Ballot(2, 1, 0, vote=False)
    assert not ballot.tally([ballot.pack()]).committed


@pytest.mark.parametrize(
    ("tie", "message"),
    [
        (TiedWeights(("embed", "wait"), ("head", "weight")), "names? parameter 'wait'"),
        (TiedWeights(("1-block", "up.weight"), ("head", "weight")), "one shape"),
    ],
)
def test_ties_that_do_not_fit_are_refused(tie: TiedWeights, message: str) -> None:
    import torch

    workload = Small(Options(), seed=1, micro_batches=4)
    model = Model(tuple(workload.layers()), (tie,))
    with pytest.raises(ValueError, match=message):
        model.initial(len(model.specs) - 1, Randomness(0, torch.device("cpu")))
