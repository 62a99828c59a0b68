"""Search files: what is refused and where, and what the examples say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.errors import UserError
from ithaca.tuners.loop.command import choose
from ithaca.tuners.loop.load import load_tune

CONFIGS = Path(__file__).parents[4] / "configs"
SEARCHES = sorted(CONFIGS.glob("tune_*.yaml"))


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_examples_are_valid_and_short(path: Path) -> None:
    assert load_tune(path).tune.name == path.stem
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) < 30


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("budgett=5s", "override 1: 'budgett=5s': budgett: unknown key; did you mean 'budget'"),
        ("budget=5", "a duration is written with its unit"),
        ("budget=0s", "a duration above 0s"),
        ("policy=bosf", "no policy 'bosf'; did you mean 'boasf'"),
        ("space={a: 3}", "tune_quick.yaml:.*space: .*write float: "),
        ("variants={a: {}}", "one of space, variants and knobs; got space, variants"),
        ("job=none.yaml", "job: there is no file .*none.yaml"),
        ("fidelity.least=900", "is above fidelity.most"),
        ("space={optimizer.lrr: {float: [1, 2]}}", "optimizer.lrr: unknown key"),
        ("space={optimizer.lr: {choice: [a]}}", "optimizer.lr"),
        ("space={steps: {choice: [5, 9]}}", "space: steps makes no difference to a trial"),
        ("space={layout.stages: {int: [1, 2]}}", "layout.stages makes no difference to a trial"),
        ("space={workload.context: {choice: [32, 64]}}", "`set` sets it for all trials; keep one"),
        ("set=[memory.budget=1GiB]", "job: has a memory.budget, which trials would not keep"),
        ("workers=0", "workers"),
        ("value=time", "target: is the loss to reach"),
        ("target=3.0", "target: is the loss to reach"),
        ("knobs={layout: {choice: [1x2]}}", "got space, knobs"),
    ],
)
def test_mistakes_have_their_place(change: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        load_tune(CONFIGS / "tune_quick.yaml", [change])


def test_folders_are_new_unless_a_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_tune(CONFIGS / "tune_quick.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no search to go on with"):
        choose(loaded, resume=True)
    first = choose(loaded, resume=False)
    assert first == Path("runs/tune_quick")
    first.mkdir(parents=True)
    (first / "journal.jsonl").touch()
    assert choose(loaded, resume=False) == Path("runs/tune_quick-2")
    assert choose(loaded, resume=True) == first
    second = choose(loaded, resume=False)
    second.mkdir()
    (second / "search.jsonl").touch()  # of knobs
    assert choose(loaded, resume=False) == Path("runs/tune_quick-3")
    assert choose(loaded, resume=True) == second
    named = load_tune(CONFIGS / "tune_quick.yaml", [f"folder={first}"])
    with pytest.raises(UserError, match=r"holds a search already\. Add --resume"):
        choose(named, resume=False)
