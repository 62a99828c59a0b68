"""From a drill's file to the drill and its job, or to one message with every mistake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ithaca.recovery.fault import Fault
from ithaca.runtime.config.errors import ConfigError, Problem, config_error
from ithaca.runtime.config.explain import Complaint, Scope, explain
from ithaca.runtime.config.load import LoadedJob, load
from ithaca.runtime.config.overrides import apply_overrides
from ithaca.runtime.config.provenance import Marks, dotted, undotted
from ithaca.runtime.config.section import BadValue
from ithaca.runtime.config.source import file_name, read_source
from ithaca.runtime.drill.config import DrillConfig


@dataclass(frozen=True, slots=True)
class LoadedDrill:
    """A drill and its job.

    Attributes:
        drill: as it was written.
        job_file: of the job.
        job: with what the drill sets, without faults.
        faults: all of them, random ones included, by step.
    """

    drill: DrillConfig
    job_file: Path
    job: LoadedJob
    faults: tuple[Fault, ...]

    def overrides(self, *, disturbed: bool) -> list[str]:
        """What is set in the job for one of the two runs."""
        words = [*self.drill.set, "report.hash_every=1"]
        if disturbed:
            lines = json.dumps([str(fault) for fault in self.faults])
            return [*words, "drills=true", f"faults={lines}"]
        return [*words, "drills=false", "faults=[]"]


def load_drill(path: Path | str, changes: Sequence[str] = ()) -> LoadedDrill:
    """The drill in the file ``path``; ``changes`` are set in its job, behind its own.

    Raises:
        ConfigError: with every mistake that was found and where it stands, in the drill or in its
            job. Nothing was started or written.
    """
    source = read_source(Path(path))
    file = file_name(Path(path))
    data, marks, _ = apply_overrides(source, file, ())
    if source.problems or not isinstance(data, dict):
        raise config_error(file, source.problems)
    try:
        drill = DrillConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        complaints = explain(error, Scope(DrillConfig, (), data))
        raise config_error(file, [_placed(each, marks) for each in complaints]) from error
    drill = drill.model_copy(update={"set": (*drill.set, *changes)})
    job_file = Path(path).parent / drill.job
    if not job_file.is_file():
        what = BadValue("job", f"there is no file {job_file}; it is looked for from {file}")
        raise _refused(what, marks)
    undisturbed = [*drill.set, "report.hash_every=1", "drills=false", "faults=[]"]
    job = load(job_file, undisturbed)
    try:
        faults = _faults(drill, job)
    except BadValue as error:
        raise _refused(error, marks) from error
    return LoadedDrill(drill, job_file, job, faults)


def _faults(drill: DrillConfig, loaded: LoadedJob) -> tuple[Fault, ...]:
    faults = [Fault.parse(text) for text in drill.faults]
    for number, fault in enumerate(faults):
        if fault.step > loaded.job.steps:
            raise BadValue(
                f"faults.{number}",
                f"is in step {fault.step}; the job has {loaded.job.steps} steps",
            )
    if drill.soak is not None:
        try:
            soak = drill.soak.soak(loaded.job.steps)
            faults += soak.schedule(range(loaded.job.num_workers))
        except BadValue:
            raise
        except ValueError as error:
            raise BadValue("soak.faults", str(error)) from error
    return tuple(sorted(faults, key=lambda fault: fault.step))


def _refused(error: BadValue, marks: Marks) -> ConfigError:
    key = undotted(error.key)
    return config_error(marks.file, [_placed(Complaint(key, f"{dotted(key)}: {error}"), marks)])


def _placed(complaint: Complaint, marks: Marks) -> Problem:
    return Problem(marks.place(complaint.key, at_key=complaint.at_key), complaint.text)
