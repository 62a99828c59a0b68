"""The failure report: the first failure's traceback is its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ithaca.runtime.script.contract import Place
from ithaca.runtime.script.failure import Failure
from ithaca.runtime.script.report import failure_report, restart_line

TRACE = "Traceback (most recent call last):\n  File x\nValueError: boom"
FIRST = Failure(Place(1, 4, 1, 4, 0, 1), "host", 7, 1, 50.0, TRACE, "error file", Path("/logs/1"))
OTHER = Failure(Place(0, 4, 0, 4, 0, 1), "host", 6, -9, 51.0, "", "end of stderr", Path("/logs/0"))


def test_the_first_traceback_is_last() -> None:
    text = failure_report([OTHER, FIRST], 2, "no restart is left of 1")
    assert text.endswith("ValueError: boom")
    assert "2 of 4 ranks failed in attempt 2; no restart is left of 1." in text
    assert text.index("Failed after the first") < text.index("First to fail: rank 1")
    for part in ("pid 7", "exit code 1", "/logs/1", "from its error file", "host"):
        assert part in text
    assert "signal SIGKILL" in text


def test_order_does_not_matter() -> None:
    made = [failure_report(fs, 1, "no restarts") for fs in ([OTHER, FIRST], [FIRST, OTHER])]
    assert made[0] == made[1]


def test_a_silent_death_is_told() -> None:
    text = failure_report([OTHER], 1, "no restarts")
    assert text.endswith("it wrote no traceback and nothing to stderr")
    lost = replace(OTHER, pid=None, folder=None, code=None, trace="the node is gone")
    assert failure_report([lost], 1, "no restarts").endswith("the node is gone")


def test_a_restart_names_the_cause() -> None:
    text = restart_line([OTHER, FIRST], 0, 3)
    assert "rank 1 failed first (exit code 1): ValueError: boom" in text
    assert "restart 1 of 3" in text
