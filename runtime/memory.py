"""A worker under its budget of bytes: a memory session over the layers that it holds.

The session lives in the engine's thread, from one step to the next, as long as the worker holds
the same layers. While states move between workers there is none: what is sent has to stay where it
is. What control, communication and checkpoint threads allocate is not counted.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate

import torch
from torch import nn

from ithaca.planner.memory import num_partials, usage
from ithaca.planner.profile import MemoryCost, Profile
from ithaca.planner.program import Compute, Op, Program, Reduce
from ithaca.runtime.config.memory import MemoryConfig
from ithaca.runtime.config.units import about_size
from ithaca.runtime.engine.trainer import Trainer
from ithaca.runtime.events import MemoryUsed
from ithaca.swap import allocator
from ithaca.swap.cost import cost_table
from ithaca.swap.errors import BudgetError
from ithaca.swap.report import Report
from ithaca.swap.session import MemorySession
from ithaca.swap.trace import Role, Trace

MOST_TOLD = 40
"""Decisions that a worker tells, the largest first."""
COST_ROWS, COST_EFFORT = 9, 1000


class Held(nn.Module):
    """The layers of a worker as one module, for the session; it is never called.

    ``layers`` are by index, so that names are those of the model and not of the worker.
    ``masters`` are fp32 weights that are no parameters of the layers themselves.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        held = trainer.holdings.layers
        self.layers = nn.ModuleDict({str(index): held[index].module for index in sorted(held)})
        own = {id(parameter) for parameter in self.layers.parameters()}
        masters = [m for layer in held.values() for m in layer.masters if id(m) not in own]
        self.masters = nn.ParameterList(masters)


class WorkerMemory:
    """Opens and closes the sessions of one worker; used by the engine's thread alone.

    Args:
        config: with a budget.
        trainer: of the worker.
        profile: sizes, for a budget that is a percentage.
        exact: whether gradients are summed in the fixed tree.
    """

    def __init__(
        self, config: MemoryConfig, trainer: Trainer, profile: Profile | None, exact: bool
    ) -> None:
        self._config, self._trainer, self._profile = config, trainer, profile
        self._exact = exact
        self._session: MemorySession | None = None
        self._modules: tuple[nn.Module, ...] = ()
        self._report: Report | None = None
        trainer.holdings.guard = self._guard

    def begin_step(self, program: Program, *, rest: bool) -> None:
        """Before a step, or the ``rest`` of one that was interrupted.

        Raises:
            BudgetError: the layers alone are above the budget.
        """
        modules = tuple(layer.module for layer in self._trainer.holdings.layers.values())
        if self._session is not None and modules != self._modules and not rest:
            self.suspend()
        if self._session is None and not rest:
            self._open(program, modules)

    def end_step(self) -> None:
        """Behind a step or a validation."""
        if self._session is not None:
            self._session.step(self._trainer.later_bytes)

    def suspend(self) -> None:
        """Bring back everything that is away, and count no more until the next whole step."""
        session, self._session = self._session, None
        if session is not None:
            self._report = session.report()
            session.__exit__(None, None, None)

    def refused(self, error: torch.OutOfMemoryError) -> BudgetError:
        """What to say of a step that does not fit."""
        session, self._session = self._session, None
        needed = allocator.operators().memory_bytes()["refused"]
        budget = 0
        if session is not None:
            budget, self._report = session.budget_bytes, session.report()
            try:
                session.__exit__(type(error), error, None)
            except BudgetError as refused:
                needed = refused.needed_bytes
        more = ""
        if not self._config.folder:
            more = ", or give a memory.folder with a memory.limit"
        elif not self._config.recompute:
            more = ", or leave memory.recompute away"
        return BudgetError(
            f"the memory budget of {about_size(budget)} is too small for this worker: at least "
            f"{needed} bytes ({about_size(needed)}) are needed to get past this point; set "
            f"memory.budget to more than that{more}. {error}",
            needed,
            budget,
        )

    def used(self, worker: int, step: int) -> MemoryUsed | None:
        """What was used, moved and decided so far; None before the first step."""
        report = self._session.report() if self._session is not None else self._report
        if report is None:
            return None
        count = report.counters.get
        plan = next(iter(report.plans.values()), None)
        largest = sorted(plan.decisions if plan else (), key=lambda part: -part.nbytes)
        return MemoryUsed(
            time_s=time.time(),
            worker=worker,
            step=step,
            budget_bytes=report.budget_bytes,
            peak_bytes=report.peak_bytes,
            out_bytes=count("out_bytes", 0) + count("state_out_bytes", 0),
            in_bytes=count("in_bytes", 0) + count("state_in_bytes", 0),
            disk_bytes=count("disk_written", 0),
            copy_s=report.copy_s,
            exposed_s=report.exposed_s,
            recompute_s=plan.recompute_s if plan else 0.0,
            replays=count("replays", 0),
            plan_hits=report.plan_hits,
            decisions=[
                (str(part.identity), part.nbytes, part.action.value, part.reason)
                for part in largest[:MOST_TOLD]
            ],
            refusals=[f"{name}: {reason}" for name, reason in report.refusals.items()],
        )

    def costs(self) -> tuple[MemoryCost, ...]:
        """What it would cost to have room for a share of the activations only; may be empty."""
        traces = self._session.traces() if self._session is not None else ()
        return memory_costs(next(iter(traces))) if traces else ()

    def _guard(self) -> AbstractContextManager[None]:
        return nullcontext() if self._session is None else self._session.micro_batch()

    def _open(self, program: Program, modules: tuple[nn.Module, ...]) -> None:
        config = self._config
        session = MemorySession(
            Held(self._trainer),
            self._budget(program),
            folder=config.folder,
            limit=config.limit,
            recompute=config.recompute,
        )
        session.__enter__()
        self._session, self._modules = session, modules

    def _budget(self, program: Program) -> int:
        config = self._config
        if config.limit_bytes is not None:
            return config.limit_bytes
        assert self._profile is not None, "a percentage needs sizes"
        planned = usage(program, self._profile, exact=self._exact)
        vectors = _vector_bytes(program, self._profile)
        other = allocator.usage().allocated - planned.parameters - planned.state
        fixed = planned.peak - planned.activations + vectors + max(0, other)
        fixed += _owed_bytes(program, self._profile)
        budget = config.bytes_for(fixed, planned.activations)
        assert budget is not None
        return budget


def memory_costs(trace: Trace) -> tuple[MemoryCost, ...]:
    """Rows from the least share of activations that a step can live with to all of them."""
    table = cost_table(trace, rows=COST_ROWS, effort=COST_EFFORT)
    movable = _most_activations(trace)
    fixed = table.budget_bytes[-1] - movable
    if movable <= 0 or table.step_s[-1] <= 0:
        return ()
    return tuple(
        MemoryCost(max(0.0, (budget - fixed) / movable), seconds / table.step_s[-1])
        for budget, seconds in zip(table.budget_bytes, table.step_s, strict=True)
    )


def _most_activations(trace: Trace) -> int:
    """Bytes of saved tensors that are alive at once, at most."""
    change = [0] * (len(trace.points) + 1)
    for saved in trace.saved:
        if saved.role is Role.ACTIVATION:
            change[saved.produced_at] += saved.nbytes
            change[saved.freed_at] -= saved.nbytes
    return max(accumulate(change))


def _owed_bytes(program: Program, profile: Profile) -> int:
    """What waits between I and W at most: about as many gradients as there are activations."""
    owed = most = 0
    for action in program.actions:
        if isinstance(action, Compute) and action.op in (Op.I, Op.W):
            size = sum(profile.layers[layer].activation_bytes for layer in action.layers)
            owed += size if action.op is Op.I else -size
            most = max(most, owed)
    return most


def _vector_bytes(program: Program, profile: Profile) -> int:
    """Packed sums that a worker keeps from step to step to reduce with others."""
    total = 0
    for action in program.actions:
        if isinstance(action, Reduce) and len(action.shares) > 1:
            size = sum(profile.layers[layer].grad_bytes for layer in action.layers)
            mine = [s.micro_batches for s in action.shares if s.worker == program.worker]
            total += size * (1 + sum(num_partials(m, program.num_micro_batches) for m in mine))
    return total
