"""How much a trial may cost beside the others of its arm.

Costs have heavy tails: on tables of real searches a few configurations take as long as fifty others
do in the mean, and whoever meets one early has spent the budget on it. Decision 0103.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ithaca.tuners.trial import Failure, Trial

TIMES, PART = 5.0, 0.05
"""Times the mean cost of the arm's trials, and the part of the budget that is always allowed."""


def patience_s(trials: Iterable[Trial], target: int | None, budget_s: float) -> float:
    """Seconds that the next trial may cost in all; infinite while none has a value.

    A trial that was ended for its time counts with what it had cost by then, so that patience
    grows where many take long. Where trials have fidelities costs are compared for one unit of
    them.

    Args:
        trials: of one arm.
        target: fidelity to which the next one runs; None where there are none.
        budget_s: of the whole search.
    """
    counted = [t for t in trials if t.runs and (t.curve or t.failure is Failure.TIME)]
    if not any(trial.curve for trial in counted):
        return math.inf
    mean = math.fsum(trial.cost_s / _units(trial) for trial in counted) / len(counted)
    return max(PART * budget_s, TIMES * mean * (target or 1))


def _units(trial: Trial) -> int:
    """Of fidelity that its cost is for; at least that where it was ended on the way."""
    late = trial.failure is Failure.TIME
    return (trial.target if late else trial.fidelity) or 1
