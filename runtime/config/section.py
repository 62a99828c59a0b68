"""The base of every section of a job: frozen, typed, without unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused and values do not change."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


class BadValue(ValueError):
    """A value that is wrong only together with others; ``key`` says where to point.

    ``key`` is dotted from the root of the job, with list positions as numbers:
    ``layout.split.0``. Raised by validators and by whatever reads the job later.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message

    def __str__(self) -> str:
        return self.message
