"""Arrows point down: what each part of the product may import, and that nothing goes in circles."""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.unit.house.imports import imports
from tests.unit.house.source import Source, expect_none, planted, product, python, rooms

# What the most specific entry for a module names, it may import, besides the standard library and
# the entry's own part; `ithaca.x` includes everything below it.
LOW = "ithaca.runtime.errors ithaca.runtime.environment ithaca.runtime.events"
MAY_IMPORT = {
    # What it offers it loads at the first use; test_import.py sees to that.
    "ithaca": "ithaca.planner ithaca.recovery ithaca.runtime ithaca.swap",
    "ithaca.__main__": "ithaca.runtime.cli",
    # No torch: plans are made, printed and simulated on a machine that has none.
    "ithaca.planner": "numpy scipy",
    # Alone with torch: anybody's training loop can use it.
    "ithaca.swap": "numpy scipy torch",
    # No torch either: a decision can be replayed on paper.
    "ithaca.recovery": "numpy scipy ithaca.planner",
    # Plug-ins know the interface, never the inside.
    "ithaca.workloads": "numpy torch pydantic ithaca.runtime.workload",
    # The search itself knows no Ray and no torch; its loop on the runtime does.
    "ithaca.tuners": (
        "numpy scipy pydantic optuna sklearn ithaca.runtime.errors ithaca.runtime.lines"
    ),
    "ithaca.tuners.ray_tune": "ray ithaca.tuners",
    "ithaca.tuners.loop": (
        "jinja2 numpy pydantic ray rich torch yaml ithaca.planner ithaca.recovery ithaca.runtime "
        "ithaca.swap ithaca.tuners"
    ),
    "ithaca.runtime": (
        "ithaca google grpc jinja2 numpy pydantic ray rich safetensors torch yaml "
        "ithaca.runtime ithaca.planner ithaca.swap ithaca.recovery"
    ),
    "ithaca.runtime.errors": "",
    "ithaca.runtime.lines": "ithaca.runtime.trim",
    "ithaca.runtime.trim": "",
    "ithaca.runtime.environment": "",
    "ithaca.runtime.events": "pydantic",
    "ithaca.runtime.workload": "torch pydantic",
    "ithaca.runtime.config": (
        "annotated_types pydantic pydantic_core yaml ithaca.planner ithaca.recovery.fault "
        f"ithaca.runtime.workload {LOW}"
    ),
    "ithaca.runtime.checkpoint": (
        "numpy safetensors torch pydantic ithaca.planner ithaca.runtime.atomic "
        f"ithaca.runtime.engine.hashing ithaca.runtime.ledger ithaca.runtime.lock {LOW}"
    ),
    "ithaca.runtime.control": f"google grpc grpc_tools {LOW}",
    # Of recovery the engine knows the words of a new generation, not the decisions.
    "ithaca.runtime.engine": (
        "numpy torch pydantic deepspeed ithaca.recovery.orders ithaca.recovery.standing "
        "ithaca.recovery.strategy ithaca.recovery.tally "
        f"ithaca.planner ithaca.runtime.config ithaca.runtime.workload {LOW}"
    ),
    "ithaca.runtime.report": (
        f"jinja2 pydantic ithaca.planner ithaca.recovery.timeline ithaca.runtime.atomic {LOW}"
    ),
    "ithaca.runtime.progress": f"rich ithaca.runtime.report {LOW}",
    "ithaca.runtime.script": f"ray torch ithaca.runtime.cluster ithaca.runtime.timeouts {LOW}",
}
# torch.distributed is not for those who only decide or only hold memory.
NEVER = {
    "ithaca.recovery": ("torch.distributed",),
    "ithaca.swap": ("torch.distributed",),
    "ithaca.workloads": ("torch.distributed",),
    "ithaca.runtime": ("ithaca.runtime.cli", "ithaca.workloads", "ithaca.tuners"),
    "ithaca.runtime.cli": ("ray", "grpc"),
}
USES_RAY = (
    {
        f"ithaca.runtime.{name}"
        for name in (
            "agency",
            "answers",
            "cluster",
            "crew",
            "doctor",
            "drill.nodes",
            "farm",
            "seat",
        )
    }
    | {"ithaca.runtime.script", "ithaca.tuners.loop.driver", "ithaca.tuners.loop.hirer"}
    | {"ithaca.tuners.loop.crew", "ithaca.tuners.loop.trial_actor"}
    | {"ithaca.tuners.ray_tune"}
)
USES_GRPC = {"ithaca.runtime.control"}


def below(module: str, part: str) -> bool:
    """Whether ``module`` is ``part`` or lies in it."""
    return module == part or module.startswith(f"{part}.")


def entry(module: str) -> str:
    """The most specific key of the table for ``module``."""
    return max((part for part in MAY_IMPORT if below(module, part)), key=len)


def allowed(importer: str, imported: str) -> bool:
    """Whether the table lets ``importer`` import ``imported``."""
    for part, names in NEVER.items():
        if below(importer, part) and any(
            below(imported, name) and not below(importer, name) for name in names
        ):
            return False
    top = imported.split(".")[0]
    if top in ("ray", "grpc"):
        users = USES_RAY if top == "ray" else USES_GRPC
        if not any(below(importer, user) for user in users):
            return False
    if top in sys.stdlib_module_names:
        return True
    own = entry(importer)
    if own != "ithaca" and below(imported, own):
        return True
    return any(
        imported == name if name == "ithaca" else below(imported, name)
        for name in MAY_IMPORT[own].split()
    )


def arrows_up(sources: tuple[Source, ...]) -> list[str]:
    """Every import that the table does not allow."""
    known = frozenset(source.module for source in product())
    return [
        f"{found.place}{source.module} may not import {found.module}"
        for source in sources
        for found in imports(source, known)
        if not found.level and not allowed(source.module, found.module)
    ]


def not_absolute(sources: tuple[Source, ...]) -> list[str]:
    """Relative imports, and imports of a room by its bare name."""
    return [
        f"{found.place}import it as ithaca.{found.module}"
        for source in sources
        for found in imports(source)
        if found.level or found.module.split(".")[0] in rooms()
    ]


def circles(sources: tuple[Source, ...]) -> list[str]:
    """A circle of modules that import each other, if there is one; packages count as themselves."""
    known = frozenset(source.module for source in sources)
    graph = {
        source.module: {
            found.module
            for found in imports(source, known)
            if found.module in known and found.module != source.module and not found.typing
        }
        for source in sources
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def test_no_arrow_runs_up() -> None:
    expect_none(arrows_up(product()))


def test_all_imports_are_absolute() -> None:
    expect_none(not_absolute(python()))


def test_nothing_imports_in_circles() -> None:
    expect_none(circles(product()))


def test_every_room_is_in_the_table() -> None:
    assert [room for room in rooms() if f"ithaca.{room}" not in MAY_IMPORT] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("planner/planted.py", "import torch"),
        ("planner/planted.py", "from ithaca.runtime.workload import Workload"),
        ("planner/planted.py", "import ray"),
        ("swap/planted.py", "from ithaca.planner.plan import Plan"),
        ("swap/planted.py", "import torch.distributed as dist"),
        ("recovery/planted.py", "def f():\n    from torch.distributed import barrier"),
        ("recovery/planted.py", "import ithaca.runtime.events"),
        ("workloads/planted.py", "from ithaca.runtime.engine.tags import Tag"),
        ("workloads/lm/planted.py", "from ithaca.runtime import engine"),
        ("runtime/planted.py", "from ithaca.runtime.cli import main"),
        ("runtime/planted.py", "from ithaca.workloads.lm import Lm"),
        ("runtime/engine/planted.py", "import ray"),
        ("runtime/engine/planted.py", "from ithaca.runtime.control import wire"),
        ("runtime/config/planted.py", "import grpc"),
        ("runtime/cli/planted.py", "import ray"),
        ("runtime/report/planted.py", "if TYPE_CHECKING:\n    import torch"),
        ("runtime/workload.py", "import ithaca.runtime.events"),
        ("src/ithaca/__init__.py", "import torch"),
        ("runtime/planted.py", "import requests"),
    ],
)
def test_an_arrow_that_runs_up_is_noticed(path: str, line: str) -> None:
    assert len(arrows_up((planted(line, path),))) == 1


@pytest.mark.parametrize(
    "line", ["import planner", "from runtime.cli import main", "from .plan import Plan"]
)
def test_an_import_that_is_not_absolute_is_noticed(line: str) -> None:
    assert len(not_absolute((planted(line),))) == 1


def test_a_circle_is_noticed() -> None:
    one = planted("def f():\n    from ithaca.planner.two import g", "planner/one.py")
    two = planted("from ithaca.planner import one", "planner/two.py")
    assert circles((one,)) == circles((two,)) == []
    assert len(circles((one, two))) == 1
    typed = planted("if TYPE_CHECKING:\n    from ithaca.planner.two import G", "planner/one.py")
    assert circles((typed, two)) == []
