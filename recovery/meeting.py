"""Who keeps the workers of a generation from meeting, when all of them live.

A link may be broken between two workers only: both work, both are heard, and yet the group of the
next generation never comes together. Nothing tells which end is at fault; to go on, one has to go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def kept_apart(
    told: Mapping[int, frozenset[int]], workers: int, needed: frozenset[int] = frozenset()
) -> int | None:
    """The worker to go on without; None if nothing points at anybody.

    Each that did not meet accuses those that it says did not come, or itself if it names nobody:
    it could not reach somebody. The most accused is meant; of several one that is not needed, and
    of these the one that came last.

    Args:
        told: of each worker that failed to meet, who did not come by its account.
        workers: how many were to meet.
        needed: those that nobody can take the place of.
    """
    accused = Counter(other for worker, named in told.items() for other in named or {worker})
    if not accused:
        return None
    most = max(accused.values())
    worst = [worker for worker, votes in accused.items() if votes == most]
    # If all accuse alike it is no link that is broken; but of two, each may go on alone.
    if len(worst) == workers and workers > 2:
        return None
    return max([worker for worker in worst if worker not in needed] or worst)
