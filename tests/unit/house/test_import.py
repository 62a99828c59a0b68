"""Importing does nothing: no heavy modules, no threads, no changes to the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.house.source import ROOT, expect_none, product, rooms

pytestmark = pytest.mark.xdist_group("import")  # one process for all of them

ALONE = """
import json, sys, threading
import ithaca
print(json.dumps({"modules": sorted(sys.modules), "threads": threading.active_count()}))
"""

# What the modules themselves load comes first, so that only what ours do is seen.
EVERYTHING = """
import importlib, json, logging, os, signal, sys, threading
import grpc, numpy, pydantic, ray, rich, scipy, sklearn, torch, yaml
import torch.distributed.pipelining

def state():
    return {
        "environment": set(os.environ.items()),
        "folder": {os.getcwd()},
        "threads": {thread.name for thread in threading.enumerate()},
        "handlers": {repr(handler) for handler in logging.getLogger().handlers},
        "level": {logging.getLogger().level},
        "signals": {(name, repr(signal.getsignal(name))) for name in signal.valid_signals()},
        "threads of torch": {torch.get_num_threads()},
        "random": {torch.random.get_rng_state().numpy().tobytes()},
        "dtype": {torch.get_default_dtype()},
        "group": {torch.distributed.is_initialized()},
        "ray": {ray.is_initialized()},
        "files": set(os.listdir()),
    }

changed, failed = {}, []
for name in json.load(sys.stdin):
    before = state()
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {error!r}")
    after = state()
    if before != after:
        changed[name] = {key: repr(new) for key in before if (new := after[key] - before[key])}
print(json.dumps({"modules": sorted(sys.modules), "changed": changed, "failed": failed}))
"""


def run(program: str, stdin: str, folder: Path) -> dict[str, Any]:
    """What ``program`` prints as JSON, run by a fresh interpreter in the empty ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n{program}"],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_importing_the_package_alone_is_light(tmp_path: Path) -> None:
    answer = run(ALONE, "", tmp_path)
    heavy = {"torch", "ray", "numpy", "grpc", "pydantic", "yaml", "rich", "deepspeed"}
    assert heavy.isdisjoint(answer["modules"])
    assert answer["threads"] == 1


def importable() -> list[str]:
    """Every module of the product that is not a program."""
    return [
        source.module
        for source in product()
        if source.path.name not in ("__main__.py", "generate.py")
    ]


ACTS = {
    "environment": "import os; os.environ['X_PLANTED'] = '1'",
    "folder": "import os; os.mkdir('into'); os.chdir('into')",
    "threads": (
        "from threading import Event, Thread\n"
        "Thread(target=Event().wait, args=(99,), daemon=True).start()"
    ),
    "random": "import torch; torch.manual_seed(12345)",
    "handlers": "import logging; logging.basicConfig()",
    "files": "open('planted.log', 'w').close()",
}


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What importing everything changed, and then, module by module, what the ACTS changed."""
    plants, folder = tmp_path_factory.mktemp("plants"), tmp_path_factory.mktemp("empty")
    for what, text in ACTS.items():
        (plants / f"planted_{what}.py").write_text(text)
    program = f"import sys; sys.path.append({str(plants)!r})\n{EVERYTHING}"
    return run(program, json.dumps([*importable(), *(f"planted_{what}" for what in ACTS)]), folder)


def test_everything_can_be_imported(answer: dict[str, Any]) -> None:
    expect_none(answer["failed"])
    assert set(importable()) <= set(answer["modules"])


def test_importing_everything_changes_nothing(answer: dict[str, Any]) -> None:
    expect_none(
        f"{name} changes {what}"
        for name, what in answer["changed"].items()
        if not name.startswith("planted_")
    )


def test_nothing_is_imported_by_its_bare_name(answer: dict[str, Any]) -> None:
    expect_none(name for name in answer["modules"] if name.split(".")[0] in rooms())


@pytest.mark.parametrize("what", ACTS)
def test_a_module_that_acts_is_noticed(answer: dict[str, Any], what: str) -> None:
    assert what in answer["changed"][f"planted_{what}"]
