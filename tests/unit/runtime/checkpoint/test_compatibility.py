"""What may differ when a run is resumed, and what is refused key by key."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ithaca.runtime.checkpoint.compatibility import check_resume
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.config.job import Job
from ithaca.runtime.errors import UserError
from ithaca.runtime.ledger import Ledger

IDENTITY = {"torch": "2.13.0", "device": "cpu", "threads": "1"}
FINGERPRINT = {"train": "aa", "validation": "bb"}


def _config(**changes: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "small",
        "steps": 100,
        "workload": {"use": "lm", "dim": 64, "data": {"source": "python"}},
        "layout": {"pipelines": 2, "stages": 2, "micro_batches": 8},
    }
    for key, value in changes.items():
        target = values
        *parts, last = key.split("__")
        for part in parts:
            target = target.setdefault(part, {})
        target[last] = value
    return Job.model_validate(values).model_dump(mode="json")


def _manifest(config: dict[str, Any]) -> Manifest:
    layer = LayerFile("head", "head.safetensors", "ab" * 32, 10, ())
    made = Manifest(
        job="small",
        step=40,
        seed=0,
        created="2025-01-02T03:04:05Z",
        config=config,
        fingerprint=FINGERPRINT,
        identity=IDENTITY,
        plan="",
        generation=0,
        layers=(layer,),
        state_hash="0" * 32,
        ledger=Ledger(40),
    )
    return Manifest.from_bytes(made.to_bytes())


def test_the_same_job_goes_on() -> None:
    assert check_resume(_manifest(_config()), _config(), FINGERPRINT, IDENTITY) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"layout__pipelines": 1, "layout__stages": 1},
        {"layout__stages": [3, 2]},
        {"layout__schedule": "gpipe"},
        {"layout__memory": "8GiB"},
        {"cluster__workers": 4},
        {"cluster__address": "auto"},
        {"checkpoint__every": 7},
        {"validation__every": 0},
        {"detect": "5s"},
        {"folder": "elsewhere"},
        {"name": "renamed"},
        {"control__port": 4000},
    ],
)
def test_what_changes_no_bit_may_differ(changes: dict[str, Any]) -> None:
    assert check_resume(_manifest(_config()), _config(**changes), FINGERPRINT, IDENTITY) == ()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 3}, "seed: was 0, now 3"),
        ({"numerics": "fast"}, 'numerics: was "exact", now "fast"'),
        ({"precision": "bf16"}, 'precision: was "fp32", now "bf16"'),
        ({"layout__micro_batches": 4}, "layout.micro_batches: was 8, now 4"),
        ({"optimizer__lr": 2e-3}, "optimizer.lr: was 0.001, now 0.002"),
        ({"optimizer__schedule": "linear"}, 'optimizer.schedule: was "cosine", now "linear"'),
        ({"optimizer__on_nan": "skip"}, 'optimizer.on_nan: was "stop", now "skip"'),
        ({"workload__dim": 128}, "workload.dim: was 64, now 128"),
        ({"workload__data__source": "folder"}, 'workload.data.source: was "python", now "folder"'),
        ({"workload__extra": None}, "workload.extra: was (not set), now null"),
    ],
)
def test_what_decides_the_result_is_refused_by_name(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_resume(_manifest(_config()), _config(**changes), FINGERPRINT, IDENTITY)
    assert f"\n  {line}\n" in str(caught.value)
    assert str(caught.value).count("\n  ") == 1
    assert "a folder of its own" in str(caught.value)
    assert _manifest(_config()).config_hash != _manifest(_config(**changes)).config_hash


def test_all_differences_are_listed_at_once() -> None:
    new = _config(seed=3, optimizer__lr=2e-3)
    with pytest.raises(UserError) as caught:
        check_resume(_manifest(_config()), new, {**FINGERPRINT, "train": "cc"}, IDENTITY)
    lines = [line.strip() for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert lines == [
        'data: train: was "aa", now "cc"',
        "optimizer.lr: was 0.001, now 0.002",
        "seed: was 0, now 3",
    ]


def test_every_key_of_a_job_is_judged() -> None:
    """A key added to the job must be put on one side or the other on purpose."""
    decides = {"workload", "optimizer", "seed", "numerics", "precision"}
    judged_apart = {"steps", "layout"}
    free = {"name", "folder", "detect", "cluster", "checkpoint", "validation", "control", "report"}
    free |= {"drills", "faults", "integrity", "memory", "recovery"}
    assert set(Job.model_fields) == decides | judged_apart | free


def test_a_longer_job_is_warned_about_its_learning_rate() -> None:
    old = _manifest(_config())
    (warning,) = check_resume(old, _config(steps=200), FINGERPRINT, IDENTITY)
    assert "steps was 100 and is now 200" in warning
    constant = _manifest(_config(optimizer__schedule="constant"))
    longer = _config(optimizer__schedule="constant", steps=200)
    assert check_resume(constant, longer, FINGERPRINT, IDENTITY) == ()


def test_a_job_that_ends_before_the_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="has 40 steps, the job only 39"):
        check_resume(_manifest(_config()), _config(steps=39), FINGERPRINT, IDENTITY)


def test_another_machine_is_a_warning_unless_numerics_are_fast() -> None:
    machine = {**IDENTITY, "threads": "4", "cuda": "13"}
    warnings = check_resume(_manifest(_config()), _config(), FINGERPRINT, machine)
    assert [warning.split(";")[0] for warning in warnings] == [
        'cuda: was (not set), now "13"',
        'threads: was "1", now "4"',
    ]
    fast = _config(numerics="fast")
    assert check_resume(_manifest(fast), deepcopy(fast), FINGERPRINT, machine) == ()
