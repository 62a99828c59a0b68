"""A job as it is written: it travels without what it is made into, and needs no file."""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.runtime.config.load import LoadedJob, load_source
from ithaca.runtime.config.source import source_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a job is loaded from.

    Attributes:
        file: how messages name where the text came from.
        text: of the job, in YAML.
        overrides: ``section.key=value`` that are set in it.
    """

    file: str
    text: str
    overrides: tuple[str, ...] = ()

    def load(self) -> LoadedJob:
        """The job; torch is imported for it.

        Raises:
            ConfigError: with every mistake that was found and where it stands.
        """
        return load_source(source_of(self.text, self.file), self.file, self.overrides)
