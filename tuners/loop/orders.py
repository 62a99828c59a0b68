"""What passes between the coordinator of a search and the processes that train its trials."""

from __future__ import annotations

from dataclasses import dataclass, field

from ithaca.runtime.config.recipe import Recipe
from ithaca.tuners.trial import Failure


@dataclass(frozen=True, slots=True)
class Run:
    """A trial is to be trained, from the beginning or from a state.

    Attributes:
        trial: its number.
        run: how often it was asked for before this, and once more: tells results apart.
        job: of the trial, as it is written.
        first: step to begin with; above 0 a state is needed.
        last: step behind which it pauses.
        limit_s: how long it may take; None for no limit.
        validate: whether its value is the loss on held-out data.
        replicate_s: seconds between copies of its state in another process.
        partner: process that holds these copies.
        target: training loss behind which it ends, with its seconds as value; None for no such.
        spent_s: seconds of its runs before.
    """

    trial: int
    run: int
    job: Recipe
    first: int
    last: int
    limit_s: float | None
    validate: bool
    replicate_s: float
    partner: int
    target: float | None = None
    spent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a trial ended; with a value, the partner holds its state.

    Attributes:
        trial: its number.
        run: which of its runs.
        value: the objective; None for a failure.
        failure: why there is none.
        reason: for people.
        first: the step it began with.
        step: steps behind it.
        losses: of each step of this run, in the metric's unit.
        hash: of the state behind the last step.
        seconds: since it was begun.
        pause_s: of them from the last step until another process held the state.
        nbytes: of the state.
        unsaved: why the state is not on the disk; empty if it is, or need not be.
    """

    trial: int
    run: int
    value: float | None
    failure: Failure | None
    reason: str
    first: int
    step: int
    losses: tuple[float, ...]
    hash: str
    seconds: float
    pause_s: float = 0.0
    nbytes: int = 0
    unsaved: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a process says when it is asked.

    Attributes:
        trial: that it trains; None for none.
        run: which of its runs.
        step: where it is.
        outcome: of a run that ended and was not acknowledged.
        kept: step of every trial of which it holds a state.
        pid: of the process.
    """

    trial: int | None
    run: int
    step: int
    outcome: Outcome | None
    kept: dict[int, int] = field(default_factory=dict)
    pid: int = 0
