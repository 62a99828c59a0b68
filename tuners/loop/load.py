"""From a search's file to its configuration and job, or to one message with every mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from ithaca.runtime.config.errors import ConfigError, Problem, config_error
from ithaca.runtime.config.explain import Complaint, Scope, explain
from ithaca.runtime.config.load import LoadedJob
from ithaca.runtime.config.overrides import apply_overrides
from ithaca.runtime.config.provenance import Marks, dotted, undotted
from ithaca.runtime.config.recipe import Recipe
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.config.source import file_name, read_source
from ithaca.tuners.loop.config import TuneConfig
from ithaca.tuners.loop.knob_space import knob_words
from ithaca.tuners.space import Config, Space, Value

_ALWAYS = (
    "layout.pipelines=1",
    "layout.stages=1",
    "cluster.workers=auto",
    "recovery.min_workers=1",
    "recovery.spares=0",
    "faults=[]",
    "drills=false",
)
"""A trial is trained by one worker: the bits are those of any other layout."""


_NO_BUDGET = (
    "has a memory.budget, which trials would not keep: set: [memory.budget=null] searches without "
    "it, and knobs search for the fastest setting within it"
)


@dataclass(frozen=True, slots=True)
class LoadedTune:
    """A search and its job.

    Attributes:
        tune: as it was written.
        job_file: of the job.
        text: what it held when the search was loaded; so a file that is edited meanwhile changes no
            trial.
        steps: of a trial that goes on to the end.
    """

    tune: TuneConfig
    job_file: Path
    text: str
    steps: int

    def recipe(self, config: Mapping[str, Value]) -> Recipe:
        """The job of a trial, not yet looked at."""
        changes = (*_words(self.tune, self.steps), *overrides(config))
        return Recipe(file_name(self.job_file), self.text, changes)

    def job(self, config: Mapping[str, Value]) -> LoadedJob:
        """The job of a trial.

        Raises:
            ConfigError: it cannot be used with these values.
        """
        return self.recipe(config).load()


def overrides(config: Mapping[str, Value]) -> list[str]:
    """The values of a configuration as overrides of a job; an arm's name is none."""
    return [f"{key}={json.dumps(value)}" for key, value in config.items() if key != "variant"]


def load_tune(path: Path | str, changes: Sequence[str] = ()) -> LoadedTune:
    """The search in the file ``path`` with ``changes`` (``key=value``) set in it.

    Raises:
        ConfigError: with every mistake and where it stands, in the search or in its job: every
            arm's first configuration is tried on the job. Nothing was started or written.
    """
    source = read_source(Path(path))
    file = file_name(Path(path))
    data, marks, problems = apply_overrides(source, file, changes)
    problems = [*source.problems, *problems]
    if problems or not isinstance(data, dict):
        raise config_error(file, problems)
    try:
        tune = TuneConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        complaints = explain(error, Scope(TuneConfig, (), data))
        raise config_error(file, [_placed(each, marks) for each in complaints]) from error
    job_file = Path(path).parent / tune.job
    if not job_file.is_file():
        what = BadValue("job", f"there is no file {job_file}; it is looked for from {file}")
        raise _refused(what, marks)
    written = Recipe(file_name(job_file), read_source(job_file).text, tune.set)
    if tune.knobs:
        for arm in tune.make_arms():
            replace(written, overrides=(*tune.set, *knob_words(arm.full({})))).load()
        return LoadedTune(tune, job_file, written.text, written.load().job.steps)
    steps = tune.fidelity.most if tune.fidelity else written.load().job.steps
    loaded = LoadedTune(tune, job_file, written.text, steps)
    for arm in tune.make_arms():
        job = loaded.job(arm.full(middle(arm.space))).job
        if job.memory.budget is not None:
            raise _refused(BadValue("job", _NO_BUDGET), marks)
    return loaded


def middle(space: Space) -> Config:
    """A configuration with every parameter in the middle of its range."""
    config: Config = {}
    for parameter in space.parameters:
        if parameter in space.active(config):
            config[parameter.name] = parameter.domain.at(0.5)
    return config


def _words(tune: TuneConfig, steps: int) -> list[str]:
    return [*_ALWAYS, *tune.set, f"steps={steps}"]


def _refused(error: BadValue, marks: Marks) -> ConfigError:
    key = undotted(error.key)
    return config_error(marks.file, [_placed(Complaint(key, f"{dotted(key)}: {error}"), marks)])


def _placed(complaint: Complaint, marks: Marks) -> Problem:
    return Problem(marks.place(complaint.key, at_key=complaint.at_key), complaint.text)
