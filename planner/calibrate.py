"""Constants of a cluster from measured step times of several layouts.

A profile of single layers says little about messages between machines and nothing about how well
they overlap; and it may have been taken with other settings than the steps. So a few constants,
each with a physical meaning, are fitted to measured steps: a factor on the layers' compute times,
the time of a message, the bandwidth of the gradients' all-reduce. What each form assumes is said
in :class:`Form`; predictions are made for pipelines of equal length, ``step_s = pipeline + ring
all-reduce of the largest stage + its optimizer step``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from statistics import mean

import numpy as np
from scipy.optimize import least_squares

from ithaca.planner.balance import Balancer, Duty
from ithaca.planner.layer import Layer
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.span import Span


@dataclass(frozen=True, slots=True)
class Measured:
    """A step of ``pipelines`` x ``stages`` workers that took ``step_s`` seconds."""

    pipelines: int
    stages: int
    step_s: float

    def __str__(self) -> str:
        return f"{self.pipelines} x {self.stages}"


@dataclass(frozen=True, slots=True)
class Constants:
    """What is fitted.

    Attributes:
        compute: measured compute over the profile's, a factor.
        message_s: seconds of one activation or its gradient over one cut.
        reduce_bytes_per_s: of the ring all-reduce, each way.
    """

    compute: float = 1.0
    message_s: float = 0.0
    reduce_bytes_per_s: float = math.inf


class Form(Enum):
    """How compute and messages of a pipeline of S stages and m micro-batches add up.

    ``compute``: (m + S - 1) times the slowest stage, nothing else counts (Eq. 9 of Chameleon,
    arXiv 2508.21613, as others restate it); only the first constant is fitted.
    ``beside``: messages travel beside the compute; in 1F1B's round trip each micro-batch then
    still waits for 2 (S - 1) / S messages.
    ``blocking``: a worker that sends or receives does not compute: 4 messages per micro-batch for
    an inner stage, 2 for the first and the last.
    """

    COMPUTE = "compute"
    BESIDE = "beside"
    BLOCKING = "blocking"


class Rule(Enum):
    """Which stages get the layers that are left over by an even split.

    ``first``: the first ones, one each. ``last``: the last ones. ``time``: the split whose slowest
    stage is fastest by the profile.
    """

    FIRST = "first"
    LAST = "last"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants of ``form`` and ``rule``, and the relative errors on the rows they were fitted to.

    ``errors`` are (predicted - measured) / measured.
    """

    form: Form
    rule: Rule
    constants: Constants
    errors: tuple[float, ...]

    @property
    def mean_error(self) -> float:
        """Mean of the absolute errors."""
        return mean(map(abs, self.errors))


class StepModel:
    """Closed forms of a step for layouts of equal pipelines.

    Args:
        profile: ``grad_bytes`` are the bytes that the all-reduce moves per layer.
        num_micro_batches: of a step; a pipeline computes the P-th part, rounded up.
    """

    def __init__(self, profile: Profile, num_micro_batches: int) -> None:
        self._layers = profile.layers
        self._total = num_micro_batches
        self.split = cache(self._split)
        self._balancer = Balancer(profile, Schedule.ONE_F_ONE_B)
        self._arrays = cache(self._stage_arrays)

    def step_s(
        self, constants: Constants, form: Form, rule: Rule, pipelines: int, stages: int
    ) -> float:
        """Predicted seconds of a step; ``ValueError`` if there are more stages than layers."""
        compute_s, grad_bytes, optimizer_s = self._arrays(rule, stages)
        count = math.ceil(self._total / pipelines)
        cycle = constants.compute * compute_s
        messages = np.zeros(stages)
        if form is Form.BLOCKING:
            messages[1:] += 2
            messages[:-1] += 2
        cycle = cycle + constants.message_s * messages
        slowest = float(cycle.max())
        step_s = float(cycle.sum()) + (count - 1) * slowest
        if form is Form.COMPUTE:
            step_s = (count + stages - 1) * slowest
        if form is Form.BESIDE:
            waits = 2 * (stages - 1) * (1 + (count - 1) / stages)
            step_s += waits * constants.message_s
        ring = 2 * (pipelines - 1) / pipelines * grad_bytes / constants.reduce_bytes_per_s
        return step_s + ring + optimizer_s

    def _split(self, rule: Rule, stages: int) -> tuple[Span, ...]:
        """The layers of each stage."""
        if stages > len(self._layers):
            raise ValueError(f"{len(self._layers)} layers do not make {stages} stages")
        if rule is Rule.TIME:
            found = self._balancer.fastest(Duty(stages, 1, (1,), 1, 1, 1), math.inf)
            assert found is not None, "without a limit everything fits"
            return found[1]
        size, extra = divmod(len(self._layers), stages)
        more = range(extra) if rule is Rule.FIRST else range(stages - extra, stages)
        spans, first = [], 0
        for stage in range(stages):
            last = first + size + (stage in more)
            spans.append(Span(first, last))
            first = last
        return tuple(spans)

    def _stage_arrays(
        self, rule: Rule, stages: int
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], int, float]:
        """Seconds of F + B per stage, most bytes to reduce, longest optimizer step."""
        parts = [self._layers[s.first : s.last] for s in self.split(rule, stages)]

        def most(value: Callable[[Layer], float]) -> float:
            return max(sum(map(value, part)) for part in parts)

        compute = np.array([sum(x.forward_s + x.backward_s for x in part) for part in parts])
        return compute, int(most(lambda x: x.grad_bytes)), most(lambda x: x.step_s)


def fit(model: StepModel, rows: Sequence[Measured], form: Form, rule: Rule) -> Fit:
    """The constants of ``form`` with the least (robust, relative) error on ``rows``.

    Deviations beyond a few percent count linearly (soft L1), so that an outlier does not pull.

    Raises:
        ValueError: there are fewer rows than constants.
    """
    size = 1 if form is Form.COMPUTE else 3
    if len(rows) < size:
        raise ValueError(f"{size} constants need at least as many measured steps, not {len(rows)}")
    scale = mean(row.step_s for row in rows)

    def constants(x: Sequence[float]) -> Constants:
        # Fitted are logarithms, so that all stay positive; and the inverse of the bandwidth.
        values = [math.exp(value) for value in x]
        if size == 1:
            return Constants(values[0])
        return Constants(values[0], values[1], 1 / values[2])

    def residuals(x: Sequence[float]) -> list[float]:
        now = constants(x)
        return [
            math.log(model.step_s(now, form, rule, row.pipelines, row.stages) / row.step_s)
            for row in rows
        ]

    start = [0.0, math.log(scale * 1e-3), math.log(1e-9)][:size]
    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.03, x_scale="jac")
    errors = tuple(math.expm1(residual) for residual in residuals(found.x))
    return Fit(form, rule, constants(found.x), errors)


def errors_of(model: StepModel, fitted: Fit, rows: Sequence[Measured]) -> tuple[float, ...]:
    """Relative errors (predicted - measured) / measured of ``fitted`` on other ``rows``."""
    return tuple(
        model.step_s(fitted.constants, fitted.form, fitted.rule, row.pipelines, row.stages)
        / row.step_s
        - 1
        for row in rows
    )
