"""The reference page of every key, made from the models: ``docs/config.md``.

``python -m ithaca.runtime.config.reference > docs/config.md`` brings the page up to date; a test
says when it is not.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ithaca.runtime.config.describe import describe, section_of, show_value
from ithaca.runtime.config.job import Job
from ithaca.runtime.config.plugin import find_workload

_HEAD = """\
# The keys of a job

A job is one YAML file. Each key below can be given in it, or on the command line as
`section.key=value`; `ithaca check job.yaml` shows every value and where it came from. Unknown and
repeated keys are refused. Durations and sizes are written with a unit, `2s` or `8GiB`; `1e-3` is a
number; true and false are the only words for true and false. Lists and sections may be shared
with anchors (`&a`, `*a`); tags and merge keys (`<<`) are refused.

This page is made by `python -m ithaca.runtime.config.reference`.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD, "## The job\n", _table(Job)]
    for name, field in Job.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            parts.append(_section(name, section))
            if name == "workload":
                parts += [_plugin("lm"), _plugin("csgnn")]
    return "\n".join(parts)


def _plugin(name: str) -> str:
    config = find_workload(name).Config
    head = f"### `workload`, with `use: {name}`\n\n{_sentence(config.__doc__)}\n"
    parts = [head, _table(config)]
    for key, field in config.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            parts.append(_section(f"workload.{key}", section, "###"))
    return "\n".join(parts)


def _section(name: str, section: type[BaseModel], level: str = "##") -> str:
    return f"{level} `{name}`\n\n{_sentence(section.__doc__)}\n\n{_table(section)}"


def _table(model: type[BaseModel]) -> str:
    rows = ["| key | is | default | meaning |", "|---|---|---|---|", *_rows(model)]
    return "\n".join(rows) + "\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            what = "a section or null" if _nullable(field) else "a section"
            about = _sentence(field.description or section.__doc__)
            yield f"| `{name}` | {what} | see `{name}` below | {about} |"
            continue
        about = _sentence(field.description)
        yield f"| `{name}` | {describe(field)} | {_default(field)} | {about} |"


def _nullable(field: FieldInfo) -> bool:
    return not field.is_required() and field.get_default(call_default_factory=True) is None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{show_value(field, field.get_default(call_default_factory=True))}`"


def _sentence(text: str | None) -> str:
    """The first paragraph of ``text`` on one line, in Markdown."""
    first = (text or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "`").replace("|", "\\|").split())


if __name__ == "__main__":
    print(page(), end="")
