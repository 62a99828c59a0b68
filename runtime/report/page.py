"""The report of a run: one HTML page that needs nothing but itself.

Everything on it comes from the event log. Numbers and geometry are made here and beside; the
template only places them, and escapes every text (jinja2's autoescape).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ithaca.planner.plan import Plan
from ithaca.runtime.atomic import replace_file
from ithaca.runtime.events import Event
from ithaca.runtime.report import figures
from ithaca.runtime.report.budget import budgets
from ithaca.runtime.report.gantt import gantt
from ithaca.runtime.report.notice import entries, outcome, since
from ithaca.runtime.report.recovery import view
from ithaca.runtime.report.story import Story, tell
from ithaca.runtime.report.versus import crew_rows, step_row
from ithaca.runtime.report.wording import duration, plural, printable, size


def build_page(events: Iterable[Event]) -> str:
    """The page as HTML text; a pure function of ``events``, which may be few or none."""
    story = tell(events)
    plan, run = _plan(story), story.run
    step = story.typical_step()
    measured = story.timelines[step] if step is not None else {}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            name=run.name if run else "a run without a beginning",
            outcome=outcome(story),
            facts=figures.facts(story, plan),
            tiles=figures.tiles(story),
            identity=_identity(story),
            failure=story.failures[-1] if story.failures and _failed(story) else None,
            recovery=view(story),
            loss=figures.loss_chart(story),
            throughput=figures.rate_chart(story),
            small=(figures.norm_chart(story), figures.learning_rate_chart(story)),
            gantt=gantt(story.predicted, measured, plan),
            gantt_step=step,
            step_row=step_row(story),
            crew_rows=crew_rows(story, plan, measured),
            memory=budgets(story),
            workers=[story.workers[worker] for worker in sorted(story.workers)],
            checkpoints=story.checkpoints,
            entries=entries(story),
            showcase=story.showcase,
            plans=story.plans,
            job=json.dumps(run.job, indent=2, ensure_ascii=False) if run else "",
            started_s=story.starts[0].time_s if story.starts else 0.0,
        )
    )


def write_page(events: Iterable[Event], path: Path) -> None:
    """Write the page to ``path``, whole or not at all; ``OSError`` if that cannot be done."""
    replace_file(path, [build_page(events).encode("utf-8", "backslashreplace")])


def _plan(story: Story) -> Plan | None:
    """The newest plan; None without one, or if its text is of another version."""
    if story.plan is None:
        return None
    try:
        return Plan.parse(story.plan.plan)
    except ValueError:
        return None


def _failed(story: Story) -> bool:
    return story.end is not None and story.end.outcome == "failed"


def _identity(story: Story) -> list[tuple[str, str]]:
    items = list(story.run.identity.items()) if story.run else []
    if story.state_hash:
        items.append(("state", story.state_hash))
    return items


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ithaca.runtime.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "duration": duration,
        "size": size,
        "plural": plural,
        "since": since,
    }
    return environment
