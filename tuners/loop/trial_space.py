"""Which values of a job may differ between trials."""

from __future__ import annotations

from collections.abc import Iterable

from ithaca.tuners.space import Space, SpaceError

SECTIONS = ("workload", "optimizer")
KEYS = ("layout.micro_batches", "precision", "numerics", "seed")


def check_trial_space(space: Space, set: Iterable[str]) -> None:
    """Only what makes a difference to a trial may be searched, and only if it is not set.

    Args:
        space: of an arm.
        set: ``key=value`` words for all trials.

    Raises:
        SpaceError: another key is searched, or one that is set.
    """
    given = {word.partition("=")[0].strip() for word in set}
    for parameter in space.parameters:
        name = parameter.name
        if name.partition(".")[0] not in SECTIONS and name not in KEYS:
            raise SpaceError(
                f"{name} makes no difference to a trial: one worker trains it, for as many steps "
                f"as fidelity says, and all are measured alike. A space may have "
                f"{', '.join(f'{each}.*' for each in SECTIONS)}, {', '.join(KEYS)}; settings of "
                "the runtime are knobs"
            )
        if name in given:
            raise SpaceError(f"{name} is searched, but `set` sets it for all trials; keep one")
