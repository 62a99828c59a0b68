"""Runs a Program: the one place that knows what each action means.

The interpreter holds no tensors. It walks the actions in order, posts receives a little ahead,
waits for a value where an action needs it, and leaves the work to a :class:`Machine`.
"""

from __future__ import annotations

from typing import Protocol

from ithaca.planner.program import (
    Cargo,
    Commit,
    Compute,
    Op,
    Program,
    Reduce,
    Replay,
    Spread,
    Step,
    Tie,
    Transfer,
)
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.courier import Key
from ithaca.runtime.engine.steps import After, Before, Steps

AHEAD = 4
"""Receives that are posted before their turn; the simulator assumes the same number."""


class Machine(Protocol):
    """What carries actions out: real layers, or a toy in a test."""

    def compute(self, action: Compute) -> None:
        """F, B, I or W; every input is there."""

    def send(self, action: Transfer) -> None:
        """Start to send what the action names."""

    def can_post(self, action: Transfer) -> bool:
        """Whether the receive can be posted now."""

    def post(self, action: Transfer) -> None:
        """Post the receive."""

    def awaits(self, key: Key) -> bool:
        """Whether the value must still be fetched."""

    def fetch(self, key: Key) -> Steps[None]:
        """Wait for the value."""

    def reduce(self, action: Reduce) -> Steps[None]:
        """Sum the gradients of some layers over all holders."""

    def spread(self, action: Spread) -> Steps[None]:
        """Give reduced gradients to holders that lack them, or take them."""

    def tie(self, action: Tie) -> Steps[None]:
        """Add the gradients of shared weights."""

    def replay(self, action: Replay) -> Steps[None]:
        """Compute again what another worker has computed, or be checked."""

    def commit(self) -> Steps[Tally]:
        """Exchange ballots."""

    def step(self, action: Step, tally: Tally) -> None:
        """Change the weights."""


class NotCommitted(RuntimeError):
    """A worker voted no: nothing was changed anywhere."""


def interpret(program: Program, machine: Machine) -> Steps[Tally]:
    """Run ``program`` on ``machine``; what the ballots said.

    Raises:
        NotCommitted: the step was not committed; no weight was changed.
    """
    receives = [
        position
        for position, action in enumerate(program.actions)
        if isinstance(action, Transfer) and action.op is Op.RECV
    ]
    posted = passed = 0
    tally: Tally | None = None
    for position, action in enumerate(program.actions):
        passed += passed < len(receives) and receives[passed] == position
        while posted < min(len(receives), passed + AHEAD):
            upcoming = program.actions[receives[posted]]
            assert isinstance(upcoming, Transfer)
            if posted >= passed and not machine.can_post(upcoming):
                break
            machine.post(upcoming)
            posted += 1
        yield Before(action)
        match action:
            case Compute():
                for key in _needs(action, program.num_layers):
                    if machine.awaits(key):
                        yield from machine.fetch(key)
                machine.compute(action)
            case Transfer():
                if action.op is Op.SEND:
                    machine.send(action)
            case Reduce():
                yield from machine.reduce(action)
            case Spread():
                yield from machine.spread(action)
            case Tie():
                yield from machine.tie(action)
            case Replay():
                yield from machine.replay(action)
            case Commit():
                tally = yield from machine.commit()
                if not tally.committed:
                    raise NotCommitted("a worker voted against the step; nothing was changed")
            case Step():
                if tally is None:
                    raise ValueError("the program steps before it commits")
                machine.step(action, tally)
        yield After(action)
    if tally is None:
        raise ValueError("the program never commits")
    return tally


def _needs(action: Compute, num_layers: int) -> list[Key]:
    first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
    if action.op is Op.F:
        return [(Cargo.ACTIVATION, first, micro_batch)] if first > 0 else []
    if action.op in (Op.B, Op.I) and last < num_layers:
        return [(Cargo.GRADIENT, last, micro_batch)]
    return []
