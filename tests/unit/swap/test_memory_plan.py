"""The text form of a plan."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.swap.identity import At, Identity, Phase, SegmentKey
from ithaca.swap.plan import Action, Decision, Plan
from ithaca.swap.policy import Refusal, decide, smallest_budget
from tests.helpers.memory_traces import random_trace

KEY = SegmentKey(Phase.FORWARD, "blocks.0")
NAME = Identity(KEY, 0, 0, "float32", 3, 20)
AT = At(SegmentKey(Phase.BACKWARD, "blocks.0"), 2)
SWAP = Decision(NAME, 64, Action.SWAP, "hidden", "disk", None, At(KEY, 3), AT)


@given(st.integers(0, 2**32).map(Random))
@settings(deadline=None, max_examples=60)
def test_plans_parse_back(rng: Random) -> None:
    trace = random_trace(rng)
    plan = decide(trace, smallest_budget(trace) + rng.choice([0, 50, 300]))
    assert not isinstance(plan, Refusal)
    assert Plan.parse(str(plan)) == plan


def test_what_a_plan_looks_like() -> None:
    keep = Decision(NAME, 64, Action.KEEP, "fits")
    again = Decision(NAME, 64, Action.RECOMPUTE, "cheap replay", None, "silu", At(KEY, 3))
    plan = Plan("abcd", 1000, 900, 1.5, 0.25, 0.125, (SWAP, keep, again))
    assert str(plan) == (
        "plan sequence=abcd budget=1000 peak=900 step=1.5 stall=0.25 recompute=0.125\n"
        "swap F@blocks.0/m0.0#0~0:float32:r3:b20 64 tier=disk free=F@blocks.0/m0.0+3 "
        "prefetch=B@blocks.0/m0.0+2  # hidden\n"
        "keep F@blocks.0/m0.0#0~0:float32:r3:b20 64  # fits\n"
        "recompute F@blocks.0/m0.0#0~0:float32:r3:b20 64 replay=silu free=F@blocks.0/m0.0+3"
        "  # cheap replay\n"
    )
    assert Plan.parse(str(plan)) == plan
    assert [plan.bytes_of(action) for action in Action] == [64, 64, 64]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a plan starts with"),
        ("plan sequence=a", "a plan starts with"),
        ("plan sequence=a budget=1 peak=1 step=1 stall=0 recompute=0\nhoard x 3", "line 2"),
        ("plan sequence=a budget=1 peak=1 step=1 stall=0 recompute=0\nkeep", "line 2"),
        (f"plan sequence=a budget=1 peak=1 step=1 stall=0 recompute=0\n{SWAP}x\nkeep", "line 3"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        str(SWAP).replace("tier=disk ", ""),
        str(SWAP).replace("swap", "keep"),
        str(SWAP).replace("swap", "recompute"),
        str(SWAP).replace("free=", "gratis="),
    ],
)
def test_a_decision_has_what_its_action_needs(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not go with|unknown in a decision"):
        Decision.parse(text)
