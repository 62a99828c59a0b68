"""Workloads by name; what is wrong with a name is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ithaca.workloads.lm.workload import LM
from ithaca.workloads.registry import find

COMPLETE = """
from pydantic import BaseModel
from ithaca.runtime.workload import Workload
class Settings(BaseModel): pass
class Graph(Workload):
    Config = Settings
    def __init__(self, config, *, seed, micro_batches): pass
    def layers(self): return []
    def loss(self, output, batch): return output
    def batch(self, which): return None
class Partial(Workload):
    def layers(self): return []
class Bare(Graph):
    Config = None
class Odd(Graph):
    def __init__(self, config): pass
class Other: pass
number = 3
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a user on the import path."""
    sources = {
        "own_models": COMPLETE,
        "own_broken": "1 / 0",
        "own_needy": "import not_installed_anywhere",
        "own_empty": "",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in sources:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_built_in_one_is_found() -> None:
    assert find("lm") is LM
    assert find("ithaca.workloads.lm.workload:LM") is LM


@pytest.mark.usefixtures("modules")
def test_an_own_one_is_found() -> None:
    found = find("own_models:Graph")
    assert found.__name__ == "Graph"
    assert found.__module__ == "own_models"


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lmm", r"no workload 'lmm' \(did you mean 'lm'\?\); known are csgnn, lm, and package"),
        ("resnet", "no workload 'resnet'; known are csgnn, lm, and package.module:Class"),
        ("", "no workload ''; known are"),
        ("own_models:", "is not the name of a workload; write package.module:Class"),
        (":Graph", "is not the name of a workload"),
        ("own-models:Graph", "is not the name of a workload"),
        ("own_models:Graph:x", "is not the name of a workload"),
        ("../own:Graph", "is not the name of a workload"),
        ("absent_models:Graph", "there is no module absent_models; install its package"),
        ("own_models.sub:Graph", "there is no module own_models.sub"),
        ("own_needy:Graph", "own_needy needs 'not_installed_anywhere', which is not installed"),
        ("own_broken:Graph", "importing own_broken failed with ZeroDivisionError"),
        ("own_models:Grahp", r"has no 'Grahp' \(did you mean 'Graph'\?\); its workloads are"),
        ("own_empty:Graph", "has no 'Graph'; it has no workload"),
        ("own_models:Other", "is a class, but not a subclass of ithaca.runtime.workload.Workload"),
        ("own_models:number", "is a int, but not a subclass"),
        ("own_models:Partial", "does not define __init__, batch, loss"),
        ("own_models:Bare", "has no class attribute Config, a pydantic model"),
        ("own_models:Odd", r"cannot be built as Odd\(config, seed=..., micro_batches=...\)"),
    ],
)
def test_a_wrong_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(name)
