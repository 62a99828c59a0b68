"""How much each parameter matters: the part of the variance of values that it explains alone.

Values are compared at one fidelity. A parameter's trials are put into groups (its options, or
fifths of its values), and the part of the variance between groups is the adjusted eta squared: 0 on
average for a parameter that does not matter. It says nothing of parameters that matter together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ithaca.tuners.search import Search
from ithaca.tuners.space import Value
from ithaca.tuners.trial import Trial

FEWEST = 8
"""With fewer trials nothing is said."""
_GROUPS = 5


def importance(search: Search) -> dict[str, float]:
    """Part of the variance by parameter, from 0 to 1, the largest first; empty if little is known.

    Parameters that were never varied are left out.
    """
    fidelity, values = _comparable(list(search.trials.values()))
    del fidelity
    found: dict[str, float] = {}
    names = {name for trial, _ in values for name in search.full(trial)}
    for name in sorted(names):
        pairs = [(search.full(t)[name], v) for t, v in values if name in search.full(t)]
        if len(pairs) >= FEWEST and len({str(value) for value, _ in pairs}) > 1:
            found[name] = explained([p[0] for p in pairs], [p[1] for p in pairs])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _comparable(trials: Sequence[Trial]) -> tuple[int, list[tuple[Trial, float]]]:
    """The fidelity that most trials reached, and their values at it."""
    at: dict[int, list[tuple[Trial, float]]] = {}
    for trial in trials:
        for fidelity, value in trial.curve:
            at.setdefault(fidelity, []).append((trial, value))
    if not at:
        return 0, []
    best = max(at, key=lambda fidelity: (len(at[fidelity]), fidelity))
    return best, at[best]


def explained(given: Sequence[Value], values: Sequence[float]) -> float:
    """Adjusted eta squared of ``values`` grouped by ``given``; 0 if nothing varies."""
    y = np.asarray(values, dtype=float)
    # Ranks: one trial that diverged must not be all of the variance.
    y = np.argsort(np.argsort(y, kind="stable"), kind="stable").astype(float)
    groups = _groups(given)
    count, kinds = len(y), len(set(groups))
    total = float(((y - y.mean()) ** 2).sum())
    if total == 0 or kinds < 2 or count <= kinds:
        return 0.0
    inside = 0.0
    for kind in set(groups):
        part = y[[group == kind for group in groups]]
        inside += float(((part - part.mean()) ** 2).sum())
    adjusted = 1 - inside / (count - kinds) * (count - 1) / total
    return float(min(max(adjusted, 0.0), 1.0))


def _groups(given: Sequence[Value]) -> list[int]:
    """A number for each value: that of its option, or of its fifth."""
    kinds = sorted({str(value) for value in given})
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    if not numbers or len(kinds) <= _GROUPS:
        return [kinds.index(str(value)) for value in given]
    x = np.asarray([float(str(value)) for value in given])
    borders = np.quantile(x, np.linspace(0, 1, _GROUPS + 1)[1:-1])
    return [int(group) for group in np.searchsorted(borders, x)]
