"""From exits to causes: tracebacks are found, and the first failure is the first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ithaca.runtime.script import failure
from ithaca.runtime.script.contract import Place
from ithaca.runtime.script.failure import (
    Failure,
    failure_of,
    first_failure,
    last_trace,
)
from ithaca.runtime.script.ranks import RankExit

PLACE = Place(1, 2, 1, 2, 0, 1)
PLAIN = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    main()
ValueError: boom
second line"""
EXIT = RankExit(PLACE, "host", 7, 1, 100.0, "", None, PLAIN, 99.5, Path("/logs/1"))


def test_a_plain_traceback_among_other_lines() -> None:
    noise = "loading\nTraceback (most recent call last):\n  handled\nKeyError: 1\nstep 1\n"
    assert last_trace(noise + PLAIN + "\n") == PLAIN


def test_torchs_marks_and_its_warnings_at_exit_are_taken_off() -> None:
    marked = "\n".join(f"[rank1]: {line}" for line in PLAIN.splitlines())
    warning = "\n[rank1]:[W1123 05:00:00.1 ProcessGroup.cpp:1] Warning: destroy it\n"
    assert last_trace(marked + warning) == PLAIN


def test_a_chain_of_exceptions_is_shown_whole() -> None:
    cause = PLAIN.replace("ValueError: boom\nsecond line", "KeyError: 'a'")
    for link in (
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ):
        text = f"{cause}\n\n{link}\n\n{PLAIN}"
        assert last_trace("before\n" + text) == text


def test_without_a_traceback_the_last_lines_stand_for_it() -> None:
    assert last_trace("a\n\nb\n") == "a\nb"
    assert last_trace("") == ""
    crash = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n  File x"
    assert last_trace("noise\n" + crash) == crash
    assert last_trace("x\n" * 500).count("x") == 20


def test_a_long_traceback_keeps_both_ends() -> None:
    deep = "Traceback (most recent call last):\n" + "  frame\n" * 500 + "RecursionError: deep"
    short = last_trace(deep).splitlines()
    assert len(short) == 81
    assert short[0].startswith("Traceback")
    assert short[-1] == "RecursionError: deep"


def test_the_recorded_error_wins_over_stderr() -> None:
    data = {"message": {"message": "m", "extraInfo": {"py_callstack": "Traceback...\nE: x\n"}}}
    made = failure_of(replace(EXIT, error=json.dumps(data), error_at=98.25))
    assert (made.trace, made.source, made.at) == ("Traceback...\nE: x", "error file", 98.25)
    text = failure_of(replace(EXIT, error=json.dumps({"message": "killed"}), error_at=98.0))
    assert text.trace == "killed"


@pytest.mark.parametrize("error", ["{", "[]", '{"message": 3}', '{"message": {}}', "null"])
def test_a_broken_error_file_is_passed_over(error: str) -> None:
    made = failure_of(replace(EXIT, error=error, error_at=98.0))
    assert (made.trace, made.source) == (PLAIN, "end of stderr")


def test_the_time_is_that_of_the_traceback_not_of_the_slow_exit() -> None:
    assert failure_of(EXIT).at == 99.5
    assert failure_of(replace(EXIT, stderr="only words")).at == 100.0


def test_causes() -> None:
    assert failure_of(EXIT).cause == "exit code 1"
    assert failure_of(replace(EXIT, code=-11)).cause == "signal SIGSEGV"
    assert failure_of(replace(EXIT, code=-40)).cause == "signal 40"
    assert replace(failure_of(EXIT), code=None).cause == "lost"


def test_the_summary_is_the_exceptions_first_line() -> None:
    assert failure_of(EXIT).summary == "ValueError: boom"
    assert failure_of(replace(EXIT, stderr="first\n  last \n")).summary == "last"
    assert failure_of(replace(EXIT, stderr="")).summary == ""


@pytest.mark.parametrize(
    ("line", "recurs"),
    [
        ("ModuleNotFoundError: No module named 'x'", True),
        ("SyntaxError: invalid syntax", True),
        ("/usr/bin/python: No module named train", True),
        ("RuntimeError: connection reset", False),
        ("ValueError: no SyntaxError here", False),
    ],
)
def test_errors_that_a_restart_would_meet_again(line: str, recurs: bool) -> None:
    assert failure_of(replace(EXIT, stderr=line)).would_recur is recurs


def test_the_first_failure_is_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    late, early = failure_of(EXIT), replace(failure_of(EXIT), at=42.0)
    assert first_failure([late, early]) is early

    def follow_the_order(failures: list[Failure]) -> Failure:
        return failures[0]

    monkeypatch.setattr(failure, "first_failure", follow_the_order)
    assert failure.first_failure([late, early]) is not early
