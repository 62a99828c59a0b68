"""How the layers and micro-batches of a job are laid out over its workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ithaca.planner.plan import Schedule
from ithaca.runtime.config.section import Section
from ithaca.runtime.config.units import Size


class LayoutConfig(Section):
    """Pipelines, stages and micro-batches; ``auto`` lets the planner search."""

    pipelines: int | Literal["auto"] = Field(default="auto")
    """How many pipelines work side by side on different micro-batches; or ``auto``."""
    stages: int | tuple[int, ...] | Literal["auto"] = Field(default="auto")
    """Stages of every pipeline, or a list with one number per pipeline, such as ``[3, 2]``."""
    split: tuple[tuple[int, ...], ...] | Literal["auto"] = "auto"
    """Layers of each stage, one list per pipeline, such as ``[[2, 2, 2], [3, 3]]``; or ``auto``."""
    micro_batches: int = Field(default=8, ge=1, le=65536)
    """Logical micro-batches of one step, over all pipelines; part of the job's identity."""
    schedule: Schedule = Schedule.ONE_F_ONE_B
    """``gpipe``, ``1f1b`` or ``1f1b-split``; changes no bit of the result."""
    memory: Size | None = None
    """What one worker may hold, such as ``8GiB``; limits the search. Default: no limit."""

    @model_validator(mode="after")
    def _fits_together(self) -> LayoutConfig:
        if isinstance(self.pipelines, int) and self.pipelines < 1:
            raise ValueError(f"pipelines must be at least 1, not {self.pipelines}")
        counts = [self.stages] if isinstance(self.stages, int) else self.stages
        if counts != "auto" and min(counts, default=0) < 1:
            raise ValueError(f"every pipeline has at least 1 stage; stages is {self.stages}")
        if (self.pipelines == "auto") != (self.stages == "auto"):
            raise ValueError("give both pipelines and stages as numbers, or both as auto")
        if isinstance(self.stages, tuple) and len(self.stages) != self.pipelines:
            raise ValueError(
                f"stages lists {len(self.stages)} pipelines, pipelines says {self.pipelines}"
            )
        if self.split != "auto" and [len(p) for p in self.split] != list(self.stage_counts()):
            raise ValueError("split must list one number of layers for every stage")
        return self

    def stage_counts(self) -> tuple[int, ...]:
        """Stages of each pipeline; empty when the search decides."""
        if self.pipelines == "auto" or self.stages == "auto":
            return ()
        if isinstance(self.stages, int):
            return (self.stages,) * self.pipelines
        return self.stages
