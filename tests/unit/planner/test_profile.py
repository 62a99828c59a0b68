"""Profiles: JSON round trip, link arithmetic, refusal of what is no profile."""

from __future__ import annotations

import pytest

from ithaca.planner.layer import Layer
from ithaca.planner.profile import Link, Profile


def test_json_round_trips() -> None:
    layers = (Layer("embed", param_bytes=8, split=True), Layer("head", forward_s=0.25))
    profile = Profile(layers, Link(1e-5, 2e9), 3e-5, 1e9, {"layers": "measured", "link": "default"})
    assert Profile.from_json(profile.to_json()) == profile


def test_link_adds_latency_and_size() -> None:
    assert Link(latency_s=0.5, bytes_per_s=10.0).seconds(20) == 2.5


@pytest.mark.parametrize(
    "text", ["{}", '{"layers": [], "colour": 1, "link": {}}', '{"layers": [{}], "link": {}}', "[]"]
)
def test_refuses_what_is_no_profile(text: str) -> None:
    with pytest.raises(ValueError, match="not a profile"):
        Profile.from_json(text)
