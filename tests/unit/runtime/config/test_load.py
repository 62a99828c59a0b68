"""Values, their origins, and overrides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ithaca.planner.plan import Schedule
from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.config.job import Job
from ithaca.runtime.config.load import LoadedJob, load
from ithaca.runtime.config.provenance import Kind
from ithaca.runtime.config.section import BadValue

if TYPE_CHECKING:
    from ithaca.runtime.workload import Workload

TEXT = """\
name: toy  # a comment
workload:
  use: toy
  dim: 8
steps: 100
detect: 150ms
layout:
  pipelines: 2
  stages: [3, 2]
  split: &split
    - [2, 2, 2]
    - [3, 3]
  memory: 1.5GiB
  schedule: 1f1b-split
optimizer: {lr: 1e-3, clip: null}
"""


class Inner(BaseModel):
    """A section of the plug-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    word: str = "a"


class Config(BaseModel):
    """The plug-in's options; its validator of mode before makes lists hard for strictness."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dim: int = Field(ge=1, default=4)
    rates: tuple[float, ...] = ()
    inner: Inner = Inner()
    folder: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: object) -> object:
        return dict(given) if isinstance(given, dict) else given


class Toy:
    """Enough of a workload to be loaded."""

    Config = Config


def find(name: str) -> type[Workload]:
    """The toy, whatever its name."""
    return cast("type[Workload]", Toy)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(TEXT)
    return Path("job.yaml")


def loaded(path: Path, *overrides: str) -> LoadedJob:
    return load(path, overrides, find)


def test_values(path: Path) -> None:
    job = loaded(path).job
    assert (job.name, job.steps, job.detect) == ("toy", 100, 0.15)
    assert job.layout.stages == (3, 2)
    assert job.layout.split == ((2, 2, 2), (3, 3))
    assert job.layout.memory == 3 * 2**29
    assert job.layout.schedule is Schedule.ONE_F_ONE_B_SPLIT
    assert (job.optimizer.lr, job.optimizer.clip) == (1e-3, None)
    assert job.num_workers == 5


def test_where_each_value_came_from(path: Path) -> None:
    found = loaded(path, "workload.dim=16", "optimizer={eps: 1e-6, betas: [0.8, 0.9]}")
    origins = {key: origin.text for key, origin in found.provenance.items()}
    expected = {
        "name": "job.yaml:1:7",
        "workload.use": "job.yaml:3:8",
        "workload.dim": "override 1",
        "workload.rates": "default",
        "workload.inner.word": "default",
        "workload.folder": "default",
        "steps": "job.yaml:5:8",
        "detect": "job.yaml:6:9",
        "layout.pipelines": "job.yaml:8:14",
        "layout.stages": "job.yaml:9:11",
        "layout.split": "job.yaml:10:10",
        "layout.memory": "job.yaml:13:11",
        "layout.schedule": "job.yaml:14:13",
        "layout.micro_batches": "default",
        "optimizer.lr": "job.yaml:15:17",
        "optimizer.clip": "job.yaml:15:29",
        "optimizer.eps": "override 2",
        "optimizer.betas": "override 2",
        "optimizer.warmup": "default",
    }
    assert {key: origins[key] for key in expected} == expected
    named = {k for k, o in found.provenance.items() if o.kind is not Kind.DEFAULT}
    assert named == {key for key, text in expected.items() if text != "default"}


def test_every_option_has_an_origin_and_a_value(path: Path) -> None:
    found = loaded(path)
    assert found.provenance.keys() == found.values.keys()
    dumped = found.job.model_dump()

    def leaves(data: dict[str, object], prefix: str = "") -> set[str]:
        keys: set[str] = set()
        for name, value in data.items():
            here = prefix + name
            keys |= leaves(value, f"{here}.") if isinstance(value, dict) else {here}
        return keys

    assert leaves(dumped) <= found.provenance.keys() | {"workload.dim"}


def test_values_are_shown_as_they_are_written(path: Path) -> None:
    values = loaded(path).values
    assert values["detect"] == "0.15s"
    assert values["layout.memory"] == "1536MiB"
    assert values["layout.schedule"] == "1f1b-split"
    assert values["layout.split"] == "[[2, 2, 2], [3, 3]]"
    assert values["optimizer.clip"] == "null"
    assert values["control.expose"] == "false"


def test_the_shown_values_make_the_same_job(path: Path) -> None:
    first = loaded(path, "workload.rates=[1, 2.5]", "workload.inner.word='1 # 2'")
    shown = [f"{key}={value}" for key, value in first.values.items()]
    second = loaded(path, *shown)
    assert second.workload_config == first.workload_config
    without = {"workload"}
    assert second.job.model_dump(exclude=without) == first.job.model_dump(exclude=without)
    assert {origin.kind for origin in second.provenance.values()} == {Kind.OVERRIDE}


def test_a_job_survives_json(path: Path) -> None:
    job = loaded(path).job
    assert Job.model_validate_json(job.model_dump_json(), strict=True) == job
    assert Job.model_validate(job.model_dump(mode="json")) == job
    assert Job.model_validate(job.model_dump()) == job


def test_the_last_override_of_a_key_wins(path: Path) -> None:
    found = loaded(path, "steps=1", "seed=2", "steps=3")
    assert found.job.steps == 3
    assert found.provenance["steps"].text == "override 3"


def test_an_override_makes_a_missing_section(path: Path) -> None:
    assert loaded(path, "control.port=5").job.control.port == 5
    assert loaded(path, "workload.inner.word=b").workload_config == Config(
        dim=8, inner=Inner(word="b")
    )


def test_a_list_is_replaced_as_a_whole(path: Path) -> None:
    found = loaded(path, "layout.stages=[1,1]", "layout.split=[[6],[6]]")
    assert found.job.layout.split == ((6,), (6,))


def test_anchors_share_values(path: Path) -> None:
    path.write_text(TEXT.replace("[3, 3]\n", "[3, 3]\n  micro_batches: &n 100\n") + "seed: *n\n")
    found = loaded(path)
    assert (found.job.layout.micro_batches, found.job.seed) == (100, 100)
    assert found.provenance["seed"].text == "job.yaml:17:7"


def test_a_byte_order_mark_is_no_text(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert loaded(path).job.name == "toy"


def test_a_value_found_wrong_later_is_pointed_at(path: Path) -> None:
    found = loaded(path, "seed=3")
    error = found.refuse(BadValue("layout.split.1", "is too much"))
    assert error.messages == ("job.yaml:12:7: layout.split[1]: is too much",)
    assert found.refuse(ValueError("no"), "seed").messages[0].startswith("override 1: 'seed=3'")
    assert found.refuse(ValueError("no"), "workload").messages[0].startswith("job.yaml:2:1: ")


def test_options_of_the_workload_wait_for_the_rest(path: Path) -> None:
    def never(name: str) -> type[Workload]:
        raise AssertionError("looked up although the file is broken")

    path.write_text(TEXT.replace("dim: 8", "dim: x").replace("steps: 100", "steps: x"))
    with pytest.raises(ConfigError, match="own options are checked after that"):
        load(path, (), never)


def test_a_mistake_costs_no_torch_and_no_ray(path: Path) -> None:
    path.write_text(TEXT + "stepz: 3\n")
    code = (
        "import sys; from ithaca.runtime.cli.main import main; code = main(['check', 'job.yaml']);"
        "assert not {'torch', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 2, done.stderr
    assert "job.yaml:16:1: stepz: unknown key; did you mean 'steps'?" in done.stderr
