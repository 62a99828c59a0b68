"""Policies by name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ithaca.tuners.policies.boasf import Boasf
from ithaca.tuners.policies.boasf_plus import BoasfPlus
from ithaca.tuners.policies.halving import SuccessiveHalving
from ithaca.tuners.policies.max_ucb import MaxUcb
from ithaca.tuners.policies.plain import RandomSearch, RoundRobin
from ithaca.tuners.policies.policy import Policy

POLICIES: dict[str, type[Policy[Any]]] = {
    each.name: each
    for each in (BoasfPlus, Boasf, MaxUcb, SuccessiveHalving, RoundRobin, RandomSearch)
}


def find_policy(name: str) -> type[Policy[Any]]:
    """The class called ``name``; ``ValueError`` says which there are."""
    if name not in POLICIES:
        close = get_close_matches(name, POLICIES, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"there is no policy {name!r}; {meant}there are: {', '.join(POLICIES)}")
    return POLICIES[name]
