"""How soon the next failure comes, estimated while training runs; never an oracle.

Failures of a machine are a Poisson process of unknown rate with a Gamma distribution. The fleet as
a whole starts from a weak prior and learns from all machines; each machine starts from what the
fleet is like and learns from its own history (empirical Bayes). The rates of the machines that a
plan uses add up; the sum is taken as a Gamma with the same mean and variance (Welch-Satterthwaite).
With the rate integrated out the time to the next failure is Lomax, whose integrals are closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """When the next failure comes: Lomax, cut off at ``horizon_s``.

    P(D > t) = (1 + t / scale_s) ** -shape before the horizon and 0 behind it. The horizon is the
    end of what is looked at, or the time at which a machine is known to go.

    Attributes:
        shape: of the Lomax; also of the Gamma that the rate has.
        scale_s: in seconds; the Gamma's rate parameter.
        horizon_s: no failure is later than this.
    """

    shape: float
    scale_s: float
    horizon_s: float = 30 * DAY_S

    def survival(self, time_s: float) -> float:
        """P(no failure before ``time_s``)."""
        if time_s >= self.horizon_s:
            return 0.0
        return math.exp(-self.shape * math.log1p(max(time_s, 0.0) / self.scale_s))

    def beyond(self, time_s: float) -> float:
        """E[(D - time_s)+] in seconds: how much is left of D behind ``time_s``."""
        start = max(time_s, 0.0)
        if start >= self.horizon_s:
            return 0.0
        low = math.log1p(start / self.scale_s)
        high = math.log1p(self.horizon_s / self.scale_s)
        power = 1.0 - self.shape
        # The integral of exp(power * x) from low to high, times the scale; expm1 keeps it exact
        # where power is close to zero.
        width = high - low
        grown = width if power * width == 0 else math.expm1(power * width) / power
        early = max(-time_s, 0.0)
        return early + self.scale_s * math.exp(power * low) * grown

    @property
    def mean_s(self) -> float:
        """E[D] in seconds."""
        return self.beyond(0.0)


@dataclass(frozen=True, slots=True)
class Record:
    """What one machine has shown: seconds watched, times of its failures, when it will go."""

    watched_s: float = 0.0
    failures_s: tuple[float, ...] = ()
    ends_s: float | None = None


@dataclass(frozen=True)
class Hazard:
    """The estimate and its evidence; every method returns a new one.

    Attributes:
        prior_failures: weight of the prior for the fleet, as a number of failures.
        prior_mean_s: time between failures of one machine, a priori.
        own_weight: weight, as a number of failures, of the fleet in the estimate of a machine.
        horizon_s: the longest time looked ahead.
        records: machine to what it has shown.
    """

    prior_failures: float = 0.1
    prior_mean_s: float = 3 * DAY_S
    own_weight: float = 1.0
    horizon_s: float = 30 * DAY_S
    records: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))

    def watched(self, seconds: Mapping[str, float]) -> Hazard:
        """``seconds`` more without a failure, per machine."""
        changed = {
            node: replace(self.record(node), watched_s=self.record(node).watched_s + more)
            for node, more in seconds.items()
        }
        return self._with(changed)

    def failed(self, node: str, at_s: float) -> Hazard:
        """A failure of ``node`` at ``at_s`` on the run's clock."""
        record = self.record(node)
        times = tuple(sorted((*record.failures_s, at_s)))
        return self._with({node: replace(record, failures_s=times, ends_s=None)})

    def noticed(self, node: str, ends_s: float | None) -> Hazard:
        """``node`` will be gone at ``ends_s`` on the run's clock; None takes the notice back.

        A notice for one worker only goes by the name of that worker, ``worker N``.
        """
        return self._with({node: replace(self.record(node), ends_s=ends_s)})

    def record(self, node: str) -> Record:
        """What is known of ``node``."""
        return self.records.get(node, Record())

    def failures_since(self, node: str, since_s: float) -> int:
        """How often ``node`` has failed from ``since_s`` on."""
        return sum(time >= since_s for time in self.record(node).failures_s)

    def rate(self, node: str) -> float:
        """Expected failures per second of ``node``."""
        shape, scale = self._gamma(node)
        return shape / scale

    def ends_s(self, nodes: Iterable[str]) -> float | None:
        """When the first of ``nodes`` will be gone, on the run's clock; None if none will."""
        ends = (self.record(node).ends_s for node in nodes)
        return min((end for end in ends if end is not None), default=None)

    def arrival(
        self, nodes: Iterable[str], now_s: float = 0.0, ends_s: float | None = None
    ) -> Arrival:
        """The time from ``now_s`` to the next failure of any of ``nodes``.

        It is not later than ``ends_s``, when one of them is known to go.

        Raises:
            ValueError: there are no nodes.
        """
        members = sorted(set(nodes))
        if not members:
            raise ValueError("the next failure of no machine cannot be predicted")
        gammas = [self._gamma(node) for node in members]
        mean = sum(shape / scale for shape, scale in gammas)
        variance = sum(shape / scale**2 for shape, scale in gammas)
        horizon = self.horizon_s
        if ends_s is not None:
            horizon = max(min(horizon, ends_s - now_s), 0.0)
        return Arrival(mean**2 / variance, mean / variance, horizon)

    def _fleet(self) -> float:
        """Expected failures per second of a machine about which nothing is known."""
        failures = sum(len(record.failures_s) for record in self.records.values())
        watched = sum(record.watched_s for record in self.records.values())
        prior_s = self.prior_failures * self.prior_mean_s
        return (self.prior_failures + failures) / (prior_s + watched)

    def _gamma(self, node: str) -> tuple[float, float]:
        """Shape and scale (seconds) of the rate of ``node``."""
        record = self.record(node)
        shape = self.own_weight + len(record.failures_s)
        return shape, self.own_weight / self._fleet() + record.watched_s

    def _with(self, changed: Mapping[str, Record]) -> Hazard:
        return replace(self, records=MappingProxyType({**self.records, **changed}))
