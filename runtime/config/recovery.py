"""What happens when workers are lost: the strategy, the spares and the limits."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import Field, field_validator

from ithaca.runtime.config.section import Section
from ithaca.runtime.config.units import Seconds, format_seconds


class Choice(Enum):
    """Which answers to a failure are compared."""

    AUTO = "auto"
    REROUTE = "reroute"
    RESHAPE = "reshape"
    SHADOW = "shadow"
    ROLLBACK = "rollback"
    NONE = "none"


class RecoveryConfig(Section):
    """What happens when workers are lost."""

    strategy: Choice = Choice.AUTO
    """``auto`` compares all answers and takes the best; a name allows that one, and going back to
    a checkpoint where it is not possible; ``none`` ends the run at the first failure."""
    min_workers: int = Field(default=1, ge=1)
    """With fewer workers the run ends."""
    max_failures: Annotated[int, Field(ge=0)] | None = None
    """With more failures the run ends; null for any number."""
    spares: int = Field(default=0, ge=0, le=1024)
    """Workers that are kept warm beside those of the layout and take over for lost ones."""
    replace: bool = True
    """Whether a new worker is started for each one that is lost, where the cluster has room."""
    quarantine_failures: int = Field(default=3, ge=1)
    """A node with so many failures within ``quarantine`` gets no work any more."""
    quarantine: Seconds = Field(default=3600.0, validate_default=False)
    """How long the failures of a node are remembered, ``1s`` to ``30d``."""

    @field_validator("quarantine")
    @classmethod
    def _quarantine_in_range(cls, quarantine: float) -> float:
        if not 1 <= quarantine <= 30 * 86400:
            raise ValueError(f"must be a duration from 1s to 30d; got {format_seconds(quarantine)}")
        return quarantine
