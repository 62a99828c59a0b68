"""From a YAML file and overrides to a validated job, or to one message with every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ithaca.runtime.config.describe import field_at, show_value
from ithaca.runtime.config.errors import ConfigError, Problem, config_error
from ithaca.runtime.config.explain import Complaint, Scope, explain, known_keys
from ithaca.runtime.config.job import Job
from ithaca.runtime.config.overrides import apply_overrides
from ithaca.runtime.config.plugin import find_workload
from ithaca.runtime.config.provenance import Key, Marks, Origin, dotted, undotted
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.config.source import Source, file_name, read_source

if TYPE_CHECKING:
    from ithaca.runtime.workload import Workload

Find = Callable[[str], "type[Workload]"]
"""Looks a workload up by name; ``ValueError`` when there is none."""

_USE: Key = ("workload", "use")

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job and everything about the text it came from.

    Attributes:
        job: the validated job.
        workload: the plug-in's class.
        workload_config: the plug-in's own options, validated.
        provenance: where the value of each dotted key came from; every option of the job and of
            the plug-in is in it.
        values: each of these values as it would be written in a file.
        text: the file as it was read, without overrides.
        overrides: as they were given.
        marks: positions, for messages about values found wrong later.
    """

    job: Job
    workload: type[Workload]
    workload_config: BaseModel
    provenance: Mapping[str, Origin]
    values: Mapping[str, str]
    text: str
    overrides: tuple[str, ...]
    marks: Marks

    @property
    def config(self) -> dict[str, Any]:
        """The resolved job as JSON values, with the plug-in's options in ``workload``."""
        config = self.job.model_dump(mode="json")
        options = self.workload_config.model_dump(mode="json")
        config["workload"] = {"use": self.job.workload.use, **options}
        return config

    def refuse(self, error: Exception, key: str = "") -> ConfigError:
        """The error that tells of ``error`` where the dotted ``key`` stands.

        A :class:`BadValue` names its key itself.
        """
        path = undotted(error.key if isinstance(error, BadValue) else key)
        text = f"{dotted(path)}: {' '.join(str(error).split())}"
        complaint = Complaint(path, text, at_key=len(path) == 1)
        return config_error(self.marks.file, [_placed(complaint, self.marks)])

    def build_workload(self) -> Workload:
        """The plug-in, built from its options, its data looked at.

        Raises:
            ConfigError: it refuses its options, or its data is missing or unfit.
        """
        micro_batches = self.job.layout.micro_batches
        try:
            workload = self.workload(
                self.workload_config, seed=self.job.seed, micro_batches=micro_batches
            )
            workload.fingerprint()
            return workload
        except (ValueError, OSError) as error:
            raise self.refuse(ValueError(str(error)), "workload") from error


def load(path: Path | str, overrides: Sequence[str] = (), find: Find = find_workload) -> LoadedJob:
    """The job in the file ``path`` with ``overrides`` (``section.key=value``) set in it.

    Nothing is written, and torch is imported only after everything but the options of the
    workload was found right.

    Raises:
        ConfigError: with every mistake that was found and where it stands.
    """
    return load_source(read_source(Path(path)), file_name(Path(path)), overrides, find)


def load_source(
    source: Source, file: str, overrides: Sequence[str], find: Find = find_workload
) -> LoadedJob:
    """As :func:`load`, from what was read; messages name it ``file``."""
    data, marks, problems = apply_overrides(source, file, overrides)
    problems = [*source.problems, *problems]
    if not isinstance(data, dict):
        raise config_error(file, problems)
    job, complaints = _validate(Job, data, Scope(Job, (), data))
    known = {problem.place for problem in problems}
    placed = [_placed(complaint, marks) for complaint in complaints]
    problems += [problem for problem in placed if problem.place not in known]
    if job is None or problems:
        note = "The workload's own options are checked after that."
        raise config_error(file, problems, note if "workload" in data else "")
    workload = _found(job.workload.use, find, marks)
    config = _workload_config(workload, job, data, marks)
    provenance, values = _provenance(job, config, marks)
    return LoadedJob(
        job, workload, config, provenance, values, source.text, tuple(overrides), marks
    )


def _validate(
    model: type[Model], data: object, scope: Scope
) -> tuple[Model | None, list[Complaint]]:
    # Through JSON, because only there strict means that a list may become a tuple and a word
    # an enum member, while true is no number and 'yes' no truth.
    try:
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        if not all(_is_list_refused(item) for item in error.errors()):
            return None, explain(error, scope)
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, explain(error, scope)


def _is_list_refused(item: ErrorDetails) -> bool:
    # Behind a plug-in's validator of mode "before" JSON is forgotten, and strict then refuses a
    # list for a tuple; such a plug-in is validated without strictness.
    return item["type"] in ("tuple_type", "set_type", "frozen_set_type") and isinstance(
        item["input"], list
    )


def _found(name: str, find: Find, marks: Marks) -> type[Workload]:
    try:
        return find(name)
    except ValueError as error:
        text = f"workload.use: {' '.join(str(error).split())}"
        raise config_error(marks.file, [_placed(Complaint(_USE, text), marks)]) from error


def _workload_config(
    workload: type[Workload], job: Job, data: Mapping[str, Any], marks: Marks
) -> BaseModel:
    options = {key: value for key, value in data["workload"].items() if key != "use"}
    elsewhere = [key for key in known_keys(Job) if not key.startswith("workload")]
    scope = Scope(workload.Config, ("workload",), options, elsewhere, ("use",))
    config, complaints = _validate(workload.Config, options, scope)
    if config is None:
        raise config_error(marks.file, [_placed(complaint, marks) for complaint in complaints])
    return config


def _placed(complaint: Complaint, marks: Marks) -> Problem:
    return Problem(marks.place(complaint.key, at_key=complaint.at_key), complaint.text)


def _provenance(
    job: Job, config: BaseModel, marks: Marks
) -> tuple[dict[str, Origin], dict[str, str]]:
    origins: dict[str, Origin] = {}
    values: dict[str, str] = {}
    leaves = [*_options(job, ())]
    position = next(i for i, (key, _) in enumerate(leaves) if key == _USE)
    leaves[position + 1 : position + 1] = _options(config, ("workload",))
    for key, text in leaves:
        origins[dotted(key)] = marks.origin(key)
        values[dotted(key)] = text
    return origins, values


def _options(model: BaseModel, prefix: Key) -> Iterator[tuple[Key, str]]:
    """Every option in ``model`` that is no section, with its value as text."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        key = (*prefix, name)
        if isinstance(value, BaseModel):
            yield from _options(value, key)
        else:
            yield key, show_value(field_at(type(model), (name,)), value)
