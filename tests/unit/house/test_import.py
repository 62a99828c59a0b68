"""Importing does nothing: no heavy modules, no threads, no changes to the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.house.source import ROOT, product, rooms

ALONE = """
import json, sys, threading
import ithaca
print(json.dumps({"modules": sorted(sys.modules), "threads": threading.active_count()}))
"""

# What the modules themselves load comes first, so that only what ours do is seen.
EVERYTHING = """
import importlib, json, logging, os, signal, sys, threading
from multiprocessing import resource_tracker
import grpc, numpy, pydantic, ray, rich, scipy, torch, yaml
import torch.distributed

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "handlers": [repr(handler) for handler in logging.getLogger().handlers],
        "level": logging.getLogger().level,
        "signals": {name: repr(signal.getsignal(name)) for name in signal.valid_signals()},
        "threads of torch": torch.get_num_threads(),
        "random": torch.random.get_rng_state().tolist(),
        "dtype": str(torch.get_default_dtype()),
        "group": torch.distributed.is_initialized(),
        "ray": ray.is_initialized(),
        "files": sorted(os.listdir()),
    }

modules = json.load(sys.stdin)
before = state()
for name in modules:
    importlib.import_module(name)
after = state()
changed = [key for key in before if before[key] != after[key]]
print(json.dumps({"modules": sorted(sys.modules), "changed": changed}))
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


def test_importing_everything_changes_nothing(tmp_path: Path) -> None:
    answer = run(EVERYTHING, json.dumps(importable()), tmp_path)
    assert answer["changed"] == []
    bare = {name for name in answer["modules"] if name.split(".")[0] in rooms()}
    assert bare == set()
    assert set(importable()) <= set(answer["modules"])


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("import os; os.environ['X_PLANTED'] = '1'", "environment"),
        ("import threading; threading.Thread(target=threading.Event().wait, "
         "args=(99,), daemon=True).start()", "threads"),
        ("import torch; torch.manual_seed(12345)", "random"),
        ("import logging; logging.basicConfig()", "handlers"),
        ("open('planted.log', 'w').close()", "files"),
    ],
)  # fmt: skip
def test_a_module_that_acts_is_noticed(tmp_path: Path, line: str, changed: str) -> None:
    (tmp_path / "planted.py").write_text(line)
    program = f"import sys; sys.path.append({str(tmp_path)!r})\n{EVERYTHING}"
    (tmp_path / "run").mkdir()
    assert run(program, '["planted"]', tmp_path / "run")["changed"] == [changed]
