"""The estimate of failures: closed forms against integrals and simulation, and what it learns."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from ithaca.recovery.hazard import Arrival, Hazard

SHAPES = st.one_of(st.just(1.0), st.floats(0.05, 50.0), st.floats(1 - 1e-9, 1 + 1e-9))
ARRIVALS = st.builds(Arrival, SHAPES, st.floats(1.0, 1e6), st.floats(1.0, 1e7))


def integral(arrival: Arrival, start: float) -> float:
    """The integral of the survival function from ``start`` on, by quadrature in log time."""
    if start >= arrival.horizon_s:
        return 0.0

    def at(logarithm: float) -> float:
        time_s = arrival.scale_s * math.expm1(logarithm)
        survival: float = (1 + time_s / arrival.scale_s) ** -arrival.shape
        return survival * (arrival.scale_s + time_s)

    low = math.log1p(start / arrival.scale_s)
    high = math.log1p(arrival.horizon_s / arrival.scale_s)
    return float(quad(at, low, high, epsabs=0, epsrel=1e-10, limit=200)[0])


@given(ARRIVALS, st.floats(0.0, 1e7))
@settings(deadline=None, max_examples=200)
def test_what_is_left_is_the_integral_of_the_survival(arrival: Arrival, start: float) -> None:
    assert arrival.beyond(start) == pytest.approx(integral(arrival, start), rel=1e-6, abs=1e-9)


def test_another_shape_has_another_integral() -> None:
    """The comparison above has teeth."""
    arrival = Arrival(1.5, 1000.0, 5000.0)
    other = Arrival(1.6, 1000.0, 5000.0)
    assert arrival.beyond(100.0) != pytest.approx(integral(other, 100.0), rel=1e-3)


def test_time_before_now_is_left_as_well() -> None:
    arrival = Arrival(2.0, 100.0, 1000.0)
    assert arrival.beyond(-5.0) == pytest.approx(arrival.mean_s + 5.0)
    assert arrival.survival(1000.0) == arrival.beyond(1000.0) == 0.0


def test_failures_of_unknown_rate_come_as_predicted() -> None:
    """Draw a rate for each machine, then the first failure of any: the mean and the tails agree."""
    hazard = Hazard(prior_failures=3.0, prior_mean_s=1000.0, own_weight=4.0, horizon_s=1e5)
    hazard = hazard.watched({"a": 2000.0, "b": 500.0, "c": 0.0}).failed("b", 10.0)
    nodes = ["a", "b", "c"]
    arrival = hazard.arrival(nodes)
    draw = np.random.default_rng(0)
    fleet = (3.0 + 1) / (3.0 * 1000.0 + 2500.0)
    rates = sum(
        draw.gamma(4.0 + failures, 1 / (4.0 / fleet + watched), 400_000)
        for failures, watched in [(0, 2000.0), (1, 500.0), (0, 0.0)]
    )
    first = draw.exponential(1 / np.asarray(rates))
    for start in (0.0, 100.0, 400.0, 1500.0):
        drawn = np.maximum(np.minimum(first, 1e5) - start, 0).mean()
        assert arrival.beyond(start) == pytest.approx(drawn, rel=0.02)
        assert arrival.survival(start) == pytest.approx((first > start).mean(), abs=0.01)


def test_the_fleet_is_learned() -> None:
    """Machines that fail every 1000 s are believed to, whatever the prior says."""
    rng, hazard = Random(0), Hazard()
    nodes = [f"n{k}" for k in range(8)]
    for node in nodes:
        clock = 0.0
        while clock < 50_000:
            gap = rng.expovariate(1 / 1000)
            hazard = hazard.watched({node: gap}).failed(node, clock + gap)
            clock += gap
    assert hazard.arrival(nodes).mean_s == pytest.approx(1000 / 8, rel=0.15)
    assert 1 / hazard.rate("new") == pytest.approx(1000, rel=0.15)


def test_a_bad_machine_is_known() -> None:
    hazard = Hazard().watched({f"n{k}": 36_000.0 for k in range(8)})
    for at in range(5):
        hazard = hazard.failed("n3", 1000.0 * at)
    assert hazard.rate("n3") > 4 * hazard.rate("n1")
    assert hazard.arrival(["n1", "n2"]).mean_s > hazard.arrival(["n1", "n3"]).mean_s
    assert hazard.failures_since("n3", 2500.0) == 2


def test_without_failures_they_become_less_likely() -> None:
    hazard = Hazard()
    later = hazard.watched({"a": 30 * 86_400.0})
    assert later.rate("a") < hazard.rate("a") / 2


def test_a_notice_is_the_last_moment() -> None:
    hazard = Hazard().noticed("a", 500.0).noticed("b", 700.0)
    assert hazard.ends_s(["a", "b", "c"]) == 500.0
    assert hazard.ends_s(["c"]) is None
    assert hazard.arrival(["a", "b"], now_s=100.0, ends_s=500.0).horizon_s == 400.0
    assert hazard.arrival(["b"], now_s=100.0).horizon_s == hazard.horizon_s
    assert hazard.arrival(["a"], now_s=900.0, ends_s=500.0).mean_s == 0.0
    assert hazard.noticed("a", None).ends_s(["a"]) is None
    assert hazard.failed("a", 500.0).ends_s(["a"]) is None


def test_nobody_fails_never() -> None:
    with pytest.raises(ValueError, match="no machine"):
        Hazard().arrival([])
