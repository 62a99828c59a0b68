"""Surrogates by name."""

from __future__ import annotations

from ithaca.tuners.surrogates.surrogate import Build, RandomSurrogate
from ithaca.tuners.surrogates.tpe import TpeSurrogate

SURROGATES: dict[str, Build] = {"tpe": TpeSurrogate, "random": RandomSurrogate}


def find_surrogate(name: str) -> Build:
    """What makes the surrogate called ``name``; ``ValueError`` says which there are."""
    if name not in SURROGATES:
        raise ValueError(f"there is no surrogate {name!r}; there are: {', '.join(SURROGATES)}")
    return SURROGATES[name]
