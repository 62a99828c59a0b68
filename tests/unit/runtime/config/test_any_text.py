"""Whatever stands in a file or an override: a job comes out, or a ConfigError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from ithaca.runtime.config import compose
from ithaca.runtime.config.errors import ConfigError
from ithaca.runtime.config.load import LoadedJob, load

if TYPE_CHECKING:
    from ithaca.runtime.workload import Workload

GOOD = """\
name: toy
workload: {use: toy, dim: 8, rates: [0.5, 1], inner: {word: a}}
steps: 4
detect: 2s
layout: {pipelines: 2, stages: [1, 2], split: [[3], [1, 2]], memory: 1GiB}
optimizer: {lr: 1e-3, clip: null, schedule: linear}
control: {bind: localhost, expose: false}
"""

settings.register_profile("texts", max_examples=60, deadline=None)
FIXTURE = [HealthCheck.function_scoped_fixture]


class Inner(BaseModel):
    """A section of the toy plug-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    word: str = "b"


class Config(BaseModel):
    """The options of the toy plug-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dim: int = Field(ge=1)
    rates: tuple[float, ...] = ()
    inner: Inner = Inner()
    choice: int | str | None = None


class Toy:
    """Enough of a workload to be loaded."""

    Config = Config


def find(name: str) -> type[Workload]:
    """Knows ``toy`` alone."""
    if name != "toy":
        raise ValueError(f"there is no workload {name!r}")
    return cast("type[Workload]", Toy)


def loaded_or_refused(path: Path, raw: bytes, *overrides: str) -> LoadedJob | None:
    """The job in ``raw``, or None when it was refused with messages."""
    path.write_bytes(raw)
    try:
        return load(path, overrides, find)
    except ConfigError as error:
        told = error
    assert told.messages
    for line in told.messages:
        assert line.isprintable(), line
        assert len(line) < 1000
    assert len(str(told).splitlines()) == min(len(told.messages), 21) + 2
    return None


MARKS = st.sampled_from(
    [*":{}[]-?&*!|>'\"%@`#,~\n\t \\", "  ", "- ", ": ", "<<: ", "\n  ", "&a ", "*a", "!!str "]
)
WORDS = st.sampled_from(["name", "steps", "workload", "layout", "1e3", "2s", "null", "0x1F", "a"])
YAMLISH = st.lists(MARKS | WORDS | st.text(max_size=3), max_size=40).map("".join)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The good file with pieces cut out and put in."""
    text = GOOD
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 6))
        text = text[:first] + draw(YAMLISH.filter(lambda s: len(s) < 20)) + text[first + length :]
    return text


def test_the_good_file_is_loaded(tmp_path: Path) -> None:
    assert loaded_or_refused(tmp_path / "job.yaml", GOOD.encode()) is not None


@settings(settings.get_profile("texts"), suppress_health_check=FIXTURE)
@given(text=st.text() | YAMLISH | mutated())
def test_any_text(text: str, tmp_path: Path) -> None:
    loaded_or_refused(tmp_path / "job.yaml", text.encode(errors="surrogatepass"))


@settings(settings.get_profile("texts"), suppress_health_check=FIXTURE)
@given(raw=st.binary(max_size=200))
def test_any_bytes(raw: bytes, tmp_path: Path) -> None:
    loaded_or_refused(tmp_path / "job.yaml", raw)


@settings(settings.get_profile("texts"), suppress_health_check=FIXTURE)
@given(
    key=st.sampled_from(["steps", "layout.split", "workload.dim", "optimizer", "workload.choice"])
    | st.text(max_size=8),
    value=YAMLISH,
)
def test_any_override(key: str, value: str, tmp_path: Path) -> None:
    loaded_or_refused(tmp_path / "job.yaml", GOOD.encode(), f"{key}={value}")


KEYS = [
    *("steps", "detect", "layout", "layout.split", "layout.stages", "workload", "workload.rates"),
    *("workload.inner", "workload.choice", "optimizer.clip", "control.expose", "name", "seed"),
]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(settings.get_profile("texts"), suppress_health_check=FIXTURE)
@given(
    key=st.sampled_from(KEYS),
    value=PLAIN,
)
def test_any_value_of_any_key(key: str, value: object, tmp_path: Path) -> None:
    loaded_or_refused(tmp_path / "job.yaml", GOOD.encode(), f"{key}={json.dumps(value)}")


def test_an_error_that_is_not_ours_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(mark: object) -> None:
        raise RuntimeError("not told to the user")

    monkeypatch.setattr(compose, "_position", break_off)
    with pytest.raises(RuntimeError):
        loaded_or_refused(tmp_path / "job.yaml", GOOD.encode())
