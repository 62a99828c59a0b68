"""Search spaces: parsing, scales, conditions, halves, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ithaca.tuners.arm import Arm, arm_of, blocks, models
from ithaca.tuners.space import Choice, Float, Int, Space, SpaceError

SPACE = Space.parse(
    {
        "lr": {"float": [1e-4, 1e-1], "log": True},
        "size": {"int": [1, 64], "log": True},
        "kind": {"choice": ["a", "b"]},
        "depth": {"int": [1, 3], "when": {"kind": ["b"]}},
    }
)


@st.composite
def domains(draw: st.DrawFn) -> Float | Int | Choice:
    """Any domain."""
    kind = draw(st.sampled_from(["float", "int", "choice"]))
    log = draw(st.booleans())
    if kind == "choice":
        return Choice(tuple(draw(st.lists(st.text(max_size=3), min_size=1, unique=True))))
    low = draw(st.integers(1, 50))
    high = low + draw(st.integers(0, 1000))
    return Int(low, high, log) if kind == "int" else Float(low / 7, high / 7, log)


@given(domains(), st.floats(0, 1))
def test_every_place_has_a_value_and_every_value_a_place(
    domain: Float | Int | Choice, place: float
) -> None:
    value = domain.at(place)
    assert domain.holds(value)
    assert domain.at(domain.place(value)) == (
        pytest.approx(value) if isinstance(domain, Float) else value
    )


@given(domains(), st.floats(0, 1))
def test_halves_cover_a_domain(domain: Float | Int | Choice, place: float) -> None:
    value, halves = domain.at(place), domain.halves()
    if halves is None:
        assert domain.at(0.0) == domain.at(1.0)
    else:
        assert any(half.holds(value) for half in halves)


def test_log_scales_stay_log() -> None:
    draws = [SPACE.sample(np.random.default_rng(i))["lr"] for i in range(2000)]
    logs = [math.log10(float(str(value))) for value in draws]
    assert np.mean(logs) == pytest.approx(-2.5, abs=0.1)
    low, high = Float(1e-4, 1e-1, log=True).halves() or pytest.fail("no halves")
    assert low.high == high.low == pytest.approx(10**-2.5)
    assert low.log
    assert high.log


def test_a_linear_scale_would_be_noticed() -> None:
    """The control of the test above: on a linear scale the same mean is far off."""
    linear = Float(1e-4, 1e-1)
    logs = [math.log10(linear.at(i / 2000)) for i in range(1, 2000)]
    assert np.mean(logs) > -1.6


@given(st.integers(0, 10**6))
def test_samples_lie_in_the_space(seed: int) -> None:
    config = SPACE.sample(np.random.default_rng(seed))
    assert SPACE.check(config) == config
    assert ("depth" in config) == (config["kind"] == "b")


def test_a_space_can_be_written_and_read_back() -> None:
    assert Space.parse(json.loads(json.dumps(SPACE.spec()))) == SPACE


def test_blocks_are_the_product_of_halves() -> None:
    arms = blocks(SPACE)
    assert len(arms) == 4  # lr and size; kind is waited for, depth waits
    assert len(blocks(SPACE, 2)) == 2
    assert len(blocks(SPACE, 1)) == 1
    for seed in range(50):
        config = SPACE.sample(np.random.default_rng(seed))
        assert arm_of(arms, config).own(config) == config


def test_models_know_their_name() -> None:
    arms = models({"a": SPACE, "b": Space(())})
    assert arms[1].full({}) == {"model": "b"}
    assert arm_of(arms, {"model": "b"}).name == "b"
    assert Arm.parse(json.loads(json.dumps(arms[0].spec()))) == arms[0]
    with pytest.raises(SpaceError):
        arm_of(arms, {"model": "c"})


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"x": {"float": [2, 1]}}, "from low to high"),
        ({"x": {"float": [0, 1], "log": True}}, "begins above 0"),
        ({"x": {"floot": [0, 1]}}, "did you mean 'float'"),
        ({"x": {"float": [0, 1], "int": [0, 1]}}, "one of float, int and choice"),
        ({"x": {"int": [0.5, 1]}}, "whole ends"),
        ({"x": {"choice": []}}, "at least one option"),
        ({"x": {"choice": [1, 1]}}, "given twice"),
        ({"x": {"choice": [[1]]}}, "words, numbers"),
        ({"x": 3}, "write float"),
        ({"x": {"float": [0]}}, "two ends"),
        ({"x": {"float": [0, float("nan")]}}, "numbers"),
        ({"x": {"int": [1, 2], "when": {"y": ["a"]}}}, "does not stand before"),
        ({"y": {"choice": ["a"]}, "x": {"int": [1, 2], "when": {"y": "b"}}}, "no such option"),
    ],
)
def test_a_bad_space_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        Space.parse(spec)


@pytest.mark.parametrize(
    "config",
    [
        {"lr": 1.0, "size": 1, "kind": "a"},
        {"lr": 1e-3, "size": 1.5, "kind": "a"},
        {"lr": 1e-3, "size": 1, "kind": "c"},
        {"lr": 1e-3, "size": 1, "kind": "b"},
        {"lr": 1e-3, "size": 1, "kind": "a", "depth": 1},
        {"lr": 1e-3, "size": True, "kind": "a"},
    ],
)
def test_a_bad_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SpaceError):
        SPACE.check(config)
