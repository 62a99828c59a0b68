"""Every kind of event survives the log as it was."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime import events
from ithaca.runtime.events import (
    Event,
    StepDone,
    Timeline,
    Warned,
    parse_event,
    read_events,
)
from ithaca.runtime.log import read

KINDS = sorted(events._KINDS.values(), key=lambda cls: cls.kind)

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_ROWS = st.lists(st.tuples(st.text(), _FLOATS, _FLOATS), max_size=3)
_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: _FLOATS,
    bool: st.booleans(),
    str: st.text(),
    int | None: st.none() | st.integers(),
    float | None: st.none() | _FLOATS,
    str | None: st.none() | st.text(),
    dict[str, Any]: st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3),
    dict[str, str]: st.dictionaries(st.text(), st.text(), max_size=3),
    dict[str, float]: st.dictionaries(st.text(), _FLOATS, max_size=3),
    list[dict[str, Any]]: st.lists(
        st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3), max_size=2
    ),
    dict[str, int]: st.dictionaries(st.text(), st.integers(), max_size=3),
    dict[str, dict[str, float]]: st.dictionaries(
        st.text(), st.dictionaries(st.text(), _FLOATS, max_size=2), max_size=2
    ),
    dict[str, list[tuple[str, float, float]]]: st.dictionaries(st.text(), _ROWS, max_size=2),
    list[tuple[str, float, float]]: _ROWS,
    list[tuple[float, float]]: st.lists(st.tuples(_FLOATS, _FLOATS), max_size=3),
    list[int]: st.lists(st.integers(), max_size=3),
    list[str]: st.lists(st.text(), max_size=3),
    list[tuple[str, int, str, str]]: st.lists(
        st.tuples(st.text(), st.integers(), st.text(), st.text()), max_size=3
    ),
}


def any_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    types = get_type_hints(cls)
    return st.builds(cls, **{field.name: _VALUES[types[field.name]] for field in fields(cls)})


def through_the_log(path: Path, told: list[Event]) -> list[Event]:
    path.write_text("".join(event.to_json() + "\n" for event in told))
    return read(path)


def test_every_class_of_event_is_registered() -> None:
    assert {cls.kind for cls in Event.__subclasses__()} == {cls.kind for cls in KINDS}


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trip(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    told = [data.draw(any_of(cls)) for cls in KINDS]
    path = tmp_path_factory.getbasetemp() / "events.jsonl"
    assert through_the_log(path, told) == told


def test_the_round_trip_notices_a_lost_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Event.to_json

    def forgetful(self: Event) -> str:
        data = json.loads(plain(self))
        data.pop("skipped", None)
        return json.dumps(data)

    told: list[Event] = [
        StepDone(
            time_s=1.0, step=1, generation=0, loss=1.0, auxiliary=0.0, norm=1.0, lr=1.0, count=1,
            samples=1, seconds=1.0, skipped=True,
        )
    ]  # fmt: skip
    assert through_the_log(tmp_path / "a", told) == told
    monkeypatch.setattr(Event, "to_json", forgetful)
    assert through_the_log(tmp_path / "b", told) != told


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_survives(tmp_path: Path, loss: float) -> None:
    told = StepDone(
        time_s=1.0, step=1, generation=0, loss=loss, auxiliary=0.0, norm=1.0, lr=1.0, count=1,
        samples=1, seconds=1.0,
    )  # fmt: skip
    (back,) = through_the_log(tmp_path / "a", [told])
    assert isinstance(back, StepDone)
    assert str(back.loss) == str(loss)


def test_rows_are_tuples_again(tmp_path: Path) -> None:
    told = Timeline(
        time_s=1.0, step=0, worker=0, began_s=1.0, rows=[("F 0:1 m0", 0.0, 1.0)], peak_bytes=0
    )
    (back,) = through_the_log(tmp_path / "a", [told])
    assert isinstance(back, Timeline)
    assert back.rows == [("F 0:1 m0", 0.0, 1.0)]


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", '{"kind":"warned"}', '{"kind":[]}', "{"])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_event(text)


def test_a_cut_line_is_left_out() -> None:
    line = Warned(time_s=1.0, message="m").to_json()
    assert len(list(read_events([line + "\n", line]))) == 1
