"""How the layers and micro-batches of a job are laid out over its workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ithaca.planner.plan import Schedule
from ithaca.runtime.config.section import BadValue, Section
from ithaca.runtime.config.units import Size

MAX_WORKERS = 65536
"""More workers than this are a mistake in the file."""

_Count = Annotated[int, Field(ge=1, le=MAX_WORKERS)]


class LayoutConfig(Section):
    """Pipelines, stages and micro-batches; ``auto`` lets the planner search."""

    pipelines: _Count | Literal["auto"] = "auto"
    """How many pipelines work side by side on different micro-batches; or ``auto``."""
    stages: _Count | tuple[_Count, ...] | Literal["auto"] = "auto"
    """Stages of every pipeline, or a list with one number per pipeline, such as ``[3, 2]``."""
    split: tuple[tuple[_Count, ...], ...] | Literal["auto"] = "auto"
    """Layers of each stage, one list per pipeline, such as ``[[2, 2, 2], [3, 3]]``; or ``auto``."""
    micro_batches: int = Field(default=8, ge=1, le=65536)
    """Logical micro-batches of one step, over all pipelines; part of the job's identity."""
    schedule: Schedule = Schedule.ONE_F_ONE_B
    """``gpipe``, ``1f1b`` or ``1f1b-split``; changes no bit of the result."""
    memory: Size | None = None
    """What one worker may hold, such as ``8GiB``; limits the search. Default: no limit."""

    @model_validator(mode="after")
    def _fits_together(self) -> LayoutConfig:
        if (self.pipelines == "auto") != (self.stages == "auto"):
            raise BadValue(
                "layout.stages" if self.stages == "auto" else "layout.pipelines",
                "is auto while the other is a number; give both layout.pipelines and "
                "layout.stages as numbers, or both as auto",
            )
        if isinstance(self.stages, tuple) and len(self.stages) != self.pipelines:
            raise BadValue(
                "layout.stages",
                f"lists {len(self.stages)} pipelines, layout.pipelines says {self.pipelines}",
            )
        if isinstance(self.pipelines, int) and isinstance(self.stages, int):
            needed = self.pipelines * self.stages
            if needed > MAX_WORKERS:
                raise BadValue(
                    "layout.pipelines", f"{needed} workers are needed; at most {MAX_WORKERS} can be"
                )
        if isinstance(self.pipelines, int) and self.pipelines > self.micro_batches:
            raise BadValue(
                "layout.pipelines",
                f"is {self.pipelines}, but a step has {self.micro_batches} micro-batches, and "
                "every pipeline needs one; use fewer pipelines or more layout.micro_batches",
            )
        self._check_split()
        return self

    def _check_split(self) -> None:
        if self.split == "auto":
            return
        if self.pipelines == "auto":
            raise BadValue(
                "layout.split", "needs layout.pipelines and layout.stages as numbers, or be auto"
            )
        if len(self.split) != self.pipelines:
            raise BadValue(
                "layout.split",
                f"lists {len(self.split)} pipelines, layout.pipelines says {self.pipelines}",
            )
        for index, (sizes, count) in enumerate(zip(self.split, self.stage_counts(), strict=True)):
            if len(sizes) != count:
                raise BadValue(
                    f"layout.split.{index}",
                    f"lists {len(sizes)} stages, layout.stages says {count} for this pipeline",
                )
        totals = [sum(sizes) for sizes in self.split]
        for index, total in enumerate(totals):
            if total != totals[0]:
                raise BadValue(
                    f"layout.split.{index}",
                    f"holds {total} layers, the first pipeline {totals[0]}; every pipeline holds "
                    "the whole model",
                )

    def stage_counts(self) -> tuple[int, ...]:
        """Stages of each pipeline; empty when the search decides."""
        if self.pipelines == "auto" or self.stages == "auto":
            return ()
        if isinstance(self.stages, int):
            return (self.stages,) * self.pipelines
        return self.stages
