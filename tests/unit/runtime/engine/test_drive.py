"""Driving the engine for real: rows, positions, results and broken channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from ithaca.planner.program import Action, Commit, Compute, Op
from ithaca.planner.span import Span
from ithaca.runtime.engine.channel import ChannelError, channel_errors
from ithaca.runtime.engine.drive import ChannelFailed, Row, doing_computes, drive
from ithaca.runtime.engine.steps import After, Before, Steps

FORWARD = Compute(Op.F, Span(0, 2), 3)


@dataclass
class Arrived:
    """A message with ``content``; waiting for it ``acts``."""

    content: Any
    act: Callable[[], None] = lambda: None

    def wait(self) -> Any:  # noqa: ANN401 - a message may be anything
        self.act()
        return self.content


def engine(log: list[Any], *messages: Arrived) -> Steps[str]:
    """Computes with ``messages`` as its input, and commits."""
    yield Before(FORWARD)
    for message in messages:
        log.append((yield message))
    yield After(FORWARD)
    yield Before(Commit())
    log.append((yield Arrived("ballot")))
    yield After(Commit())
    return "tally"


def run(steps: Steps[str]) -> tuple[str, list[Row], list[str]]:
    """Drive with a clock that ticks at every look; result, rows and positions."""
    ticks, rows, positions = count(100), list[Row](), list[str]()
    result = drive(steps, lambda a: positions.append(str(a)), lambda: float(next(ticks)), rows)
    return result, rows, positions


def test_rows_say_what_was_when() -> None:
    log: list[Any] = []
    result, rows, positions = run(engine(log, Arrived(1), Arrived(2)))
    assert result == "tally"
    assert log == [1, 2, "ballot"]
    assert positions == ["F 0:2 m3", "COMMIT"]
    assert [row[0] for row in rows] == ["WAIT F 0:2 m3", "WAIT F 0:2 m3", "F 0:2 m3", "COMMIT"]
    for _, began, ended in rows:
        assert 0 < began < ended
    assert rows[1][2] <= rows[2][1], "waiting is no part of the compute"
    assert rows[3][2] - rows[3][1] == 2, "waiting is a part of the commit"


def fails(error: Exception) -> Callable[[], None]:
    """Something that raises ``error``."""

    def act() -> None:
        raise error

    return act


def test_a_message_that_does_not_come_names_the_action() -> None:
    broken = Arrived(None, fails(RuntimeError("Connection reset by peer")))
    with pytest.raises(ChannelFailed) as caught:
        run(engine([], broken))
    assert caught.value.action == "F 0:2 m3"
    assert str(caught.value) == "while in F 0:2 m3: Connection reset by peer"


def test_a_message_that_cannot_be_posted_or_settled_names_the_action() -> None:
    def steps() -> Steps[str]:
        yield Before(Commit())
        with channel_errors():
            raise RuntimeError("Broken pipe")
        return "never"

    with pytest.raises(ChannelFailed, match="while in COMMIT: Broken pipe"):
        run(steps())


def test_an_error_of_a_layer_is_no_broken_channel() -> None:
    def steps() -> Steps[str]:
        yield Before(FORWARD)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1") as caught:
        run(steps())
    assert not isinstance(caught.value, ChannelFailed | ChannelError)


def test_what_may_wait_for_an_input() -> None:
    actions: list[Action | str] = [FORWARD, Commit(), "start"]
    assert list(map(doing_computes, actions)) == [True, False, False]


def test_it_is_told_who_waits_and_who_computes() -> None:
    told: list[object] = []
    drive(
        engine([], Arrived("a")),
        lambda point: told.append(f"begin {point}"),
        lambda: 0.0,
        [],
        wait=lambda point, begins: told.append(f"{'wait' if begins else 'go on'} {point}"),
    )
    assert told == [
        "begin F 0:2 m3", "wait F 0:2 m3", "go on F 0:2 m3",
        "begin COMMIT", "wait COMMIT", "go on COMMIT",
    ]  # fmt: skip
