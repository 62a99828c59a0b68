"""Memory that changes by itself, and messages that do, are found before a step counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ithaca.planner.program import Commit, Compute, Op
from ithaca.runtime.engine.ballot import ReplicasDiffer
from ithaca.runtime.engine.channel import ChannelError, CorruptMessage, CorruptState
from ithaca.runtime.engine.steps import Before, Request
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.small_models import Options, Small
from tests.helpers.virtual_job import EXACT, VirtualJob, layout

SEALED = replace(EXACT, sealed=True)


def job(sealed: bool = True) -> VirtualJob:
    """Two pipelines of two stages."""
    workload = Small(Options(), seed=3, micro_batches=4)
    return VirtualJob(workload, layout(6, (2, 2), 4), SEALED if sealed else EXACT)


def flip(tensor: Tensor) -> None:
    """Turn one bit."""
    tensor.data.view(-1).view(torch.int32)[0] ^= 1  # autograd must not hear of it


def struck(
    here: VirtualJob, when: Callable[[Request], bool], what: Callable[[Trainer], Tensor]
) -> None:
    """A step in which worker 3 is struck, once, where ``when`` says."""
    done = False

    def watch(worker: int, request: Request) -> Verdict:
        nonlocal done
        if worker == 3 and not done and when(request):
            flip(what(here.trainers[3]))
            done = True
        return Verdict.GO_ON

    engines = {w: t.train_step(here.programs[w]) for w, t in here.trainers.items()}
    here.cluster.play(engines, watch)
    assert done


def before(kind: type, op: Op | None = None) -> Callable[[Request], bool]:
    """At the beginning of such an action."""
    return lambda r: (
        isinstance(r, Before)
        and isinstance(r.action, kind)
        and (op is None or getattr(r.action, "op", None) is op)
    )


def weight(trainer: Trainer) -> Tensor:
    return trainer.holdings.layers[4].masters[0]


def moment(trainer: Trainer) -> Tensor:
    return next(t for k, t in trainer.state(4).items() if k.startswith("exp_avg_sq"))


def partial(trainer: Trainer) -> Tensor:
    return trainer.gradients_so_far()[0]


@pytest.mark.parametrize("what", [weight, moment])
def test_a_state_that_changed_is_found_before_the_vote(what: Callable[[Trainer], Tensor]) -> None:
    here = job()
    here.train()
    with pytest.raises(CorruptState, match="state of layer 4"):
        struck(here, before(Compute, Op.B), what)


def test_a_summed_gradient_that_changed_is_found() -> None:
    here = job()
    here.train()

    def later(request: Request) -> bool:
        return before(Compute, Op.F)(request) and bool(here.trainers[3].gradients_so_far())

    with pytest.raises(CorruptState, match="summed gradient"):
        struck(here, later, partial)


def test_a_reduced_gradient_that_changed_is_reduced_again() -> None:
    here = job()
    here.train()

    def reduced(trainer: Trainer) -> Tensor:
        assert trainer.under_way is not None
        return trainer.under_way.reduced[4][0]

    with pytest.raises(CorruptMessage, match="replicas of layer 4"):
        struck(here, before(Commit), reduced)
    # Who counted the ballots first noticed it; the others would, too.
    machines = [trainer.under_way for trainer in here.trainers.values()]
    cleared = [machine for machine in machines if machine is not None and not machine.reduced]
    assert cleared
    assert all(machine.partials for machine in cleared)


def test_without_seals_nobody_notices() -> None:
    """Control: what the checks are for."""
    here = job(sealed=False)
    here.train()
    struck(here, before(Compute, Op.B), moment)


def test_seals_change_no_bit_and_follow_every_step() -> None:
    plain, sealed = job(sealed=False), job()
    assert plain.run(3) == sealed.run(3)


def test_kinds_of_trouble() -> None:
    assert issubclass(CorruptMessage, ChannelError)
    assert not issubclass(CorruptState, ChannelError)
    assert not issubclass(ReplicasDiffer, ChannelError)
