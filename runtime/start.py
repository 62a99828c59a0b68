"""What happens before workers are needed: the workload, its costs, a plan, a checkpoint."""

from __future__ import annotations

from pathlib import Path

from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.estimate import static_profile
from ithaca.runtime.layout import make_plan
from ithaca.runtime.run import Start, find_checkpoint


def prepare(loaded: LoadedJob, folder: Path, resume: bool) -> Start:
    """Everything about a run that can be known, and refused, without starting one.

    Raises:
        ConfigError: the workload refuses its options, or the layout does not fit it.
    """
    workload = loaded.build_workload()
    profile = static_profile(workload, loaded.job)
    try:
        plan = make_plan(loaded.job, profile)
    except ValueError as error:
        raise loaded.refuse(error, "layout") from error
    found, warnings = find_checkpoint(folder, resume)
    return Start(loaded, workload, plan, profile, folder, found, warnings)
