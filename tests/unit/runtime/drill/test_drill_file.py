"""Drill files: what they say, and one message with a place for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ithaca.recovery.fault import Fault
from ithaca.runtime.cli.main import main
from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.config.load import load
from ithaca.runtime.drill.load import LoadedDrill, load_drill

JOB = """\
name: toy
workload: {use: lm, dim: 32, num_layers: 2, num_heads: 2, context: 16, batch_size: 2}
steps: 8
layout: {pipelines: 2, stages: 2, micro_batches: 4}
"""
DRILL = """\
name: toy-crash
job: job.yaml
set: [steps=10]
faults:
- crash stage1.pipeline0 at step 3 before B m1
- stop w0 at step 2 for 500ms
expect:
  failures: [crash, hang|partition]
  max_pause: 2s
"""
Capture = pytest.CaptureFixture[str]


def written(folder: Path, drill: str = DRILL, job: str = JOB) -> Path:
    """The drill's file, with its job beside it."""
    (folder / "job.yaml").write_text(job)
    path = folder / "drill.yaml"
    path.write_text(drill)
    return path


def loaded(folder: Path, drill: str = DRILL) -> LoadedDrill:
    return load_drill(written(folder, drill))


def test_a_good_file(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert [str(fault) for fault in found.faults] == [
        "stop w0 at step 2 for 0.5s", "crash stage1.pipeline0 at step 3 before B m1",
    ]  # fmt: skip
    assert found.job.job.steps == 10
    expected = found.drill.expect.expectation()
    assert expected.failures == ("crash", "hang|partition")
    assert (expected.max_pause_s, expected.identical, expected.outcome) == (2.0, True, "finished")


def test_both_runs_can_be_loaded_and_differ_in_the_faults_alone(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    jobs = [load(found.job_file, found.overrides(disturbed=each)).job for each in (False, True)]
    assert jobs[0].faults == ()
    assert [Fault.parse(text) for text in jobs[1].faults] == list(found.faults)
    same = {"faults": (), "drills": False}
    assert jobs[0].model_copy(update=same) == jobs[1].model_copy(update=same)
    assert jobs[0].report.hash_every == 1


def test_a_soak_is_drawn_from_its_seed(tmp_path: Path) -> None:
    text = "name: s\njob: job.yaml\nsoak: {faults: 3, seed: 7, kinds: [crash, stop], lasting: 3s}\n"
    faults = loaded(tmp_path, text).faults
    assert len(faults) == 3
    assert faults == loaded(tmp_path, text).faults
    assert all(2 <= fault.step <= 7 for fault in faults)
    assert faults != loaded(tmp_path, text.replace("seed: 7", "seed: 8")).faults


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("faults:", "fault:", "4:1", "did you mean 'faults'"),
        ("crash stage1", "crush stage1", "5:3", "did you mean 'crash'"),
        ("before B", "before Q", "5:3", "the point is one of"),
        ("at step 3", "at step 11", "5:3", "the job has 10 steps"),
        ("max_pause: 2s", "max_pause: 2", "9:14", "written with its unit"),
        ("max_pause:", "max_pose:", "9:3", "did you mean 'max_pause'"),
        ("[crash,", "[crush,", "8:14", "a failure is one of crash"),
        ("job: job.yaml", "job: jab.yaml", "2:6", "there is no file"),
        ("name: toy-crash", "name: a/b", "1:7", "must be 1 to 64 letters"),
        ("expect:", "soak: {faults: 4}\nexpect:", "7:16", "leave none of 4 workers"),
        ("expect:", "soak: {faults: 1, first: 11}\nexpect:", "7:26", "soak.first: is 11"),
        ("expect:", "soak: {faults: 1, kinds: [crush]}\nexpect:", "7:27", "crush"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, place: str, says: str
) -> None:
    assert DRILL.count(old) == 1
    path = written(tmp_path, DRILL.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_drill(path)
    text = str(caught.value)
    assert f"drill.yaml:{place}: " in text, text
    assert says in text, text
    assert "Nothing was started or written." in text


def test_a_drill_without_faults_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="faults: are missing"):
        loaded(tmp_path, "name: a\njob: job.yaml\n")


def test_a_mistake_in_the_job_is_told_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, job=JOB.replace("pipelines", "pipelinez"))
    with pytest.raises(ConfigError, match=r"job\.yaml:4:10: layout\.pipelinez"):
        load_drill(path)


def test_the_command_shows_the_faults(tmp_path: Path, capsys: Capture) -> None:
    assert main(["drill", str(written(tmp_path)), "steps=9", "--show"]) == 0
    out = capsys.readouterr().out
    assert "toy, 9 steps" in out
    assert "  crash stage1.pipeline0 at step 3 before B m1\n" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drill.yaml", "job.yaml"]


def test_the_command_refuses_a_mistake_with_two(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path, DRILL.replace("faults:", "fault:"))
    assert main(["drill", str(path)]) == 2
    assert "drill.yaml:4:1: fault: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["crush", "w1"], "did you mean 'crash'"),
        (["crash"], "is written like"),
        (["crash", "w1", "before", "Q"], "the point is one of"),
    ],
)
def test_inject_refuses_what_is_no_fault(
    tmp_path: Path, words: list[str], says: str, capsys: Capture
) -> None:
    assert main(["inject", str(tmp_path), *words]) == 2
    assert says in capsys.readouterr().err
