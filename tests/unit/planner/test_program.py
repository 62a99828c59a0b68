"""Programs: their text form round-trips, and what is no program is refused by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.program import (
    Action,
    Cargo,
    Commit,
    Compute,
    Op,
    Program,
    Reduce,
    Share,
    Step,
    Tie,
    Transfer,
    parse_action,
)
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from tests.helpers.plans import Case, cases

small = st.integers(0, 20)
ids = st.sets(small, max_size=6).map(lambda found: tuple(sorted(found)))
workers = st.sets(small, min_size=1, max_size=4).map(lambda found: tuple(sorted(found)))
spans = st.builds(lambda first, length: Span(first, first + length), small, st.integers(1, 9))
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Compute, st.sampled_from([Op.F, Op.B, Op.I, Op.W]), spans, small),
    st.builds(
        Transfer, st.sampled_from([Op.SEND, Op.RECV]), st.sampled_from(Cargo), small, small, small
    ),
    st.builds(
        Reduce, spans, st.lists(st.builds(Share, small, ids), min_size=1, max_size=4).map(tuple)
    ),
    st.builds(Tie, small, small, workers, workers),
    st.just(Commit()),
    st.builds(Step, spans),
)


@given(actions)
@settings(deadline=None)
def test_action_round_trips(action: Action) -> None:
    assert parse_action(str(action).split()) == action


@given(small, small, small, small, st.lists(actions, max_size=8))
@settings(deadline=None)
def test_program_round_trips(
    worker: int, generation: int, layers: int, micro_batches: int, body: list[Action]
) -> None:
    program = Program(worker, generation, layers, micro_batches, tuple(body))
    assert Program.parse(str(program)) == program
    assert list(program) == body


@given(cases())
@settings(deadline=None)
def test_scheduled_programs_round_trip(case: Case) -> None:
    for program in programs(case.plan, case.plan.num_layers, case.ties, case.split).values():
        assert Program.parse(str(program)) == program


TEXT = """\
program worker=1 generation=0 layers=4 micro_batches=2
RECV a2 m0 < w0
F 2:4 m0

B 2:4 m0
SEND g2 m0 > w0
REDUCE 2:4 w1:0 w3:1
TIE 0~3 w0,w2 ~ w1,w3
COMMIT
STEP 2:4
"""


def test_parse_skips_empty_lines_and_keeps_the_rest() -> None:
    program = Program.parse(TEXT)
    assert str(program) == TEXT.replace("\n\n", "\n")


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        (2, "RECV a2 m0 > w0"),
        (2, "RECV x2 m0 < w0"),
        (2, "RECV a m0 < w0"),
        (2, "RECV a2 0 < w0"),
        (2, "RECV a2 m0 < 0"),
        (3, "F 2:4"),
        (3, "F 4:2 m0"),
        (3, "F 2:4 m-1"),
        (3, "G 2:4 m0"),
        (5, "b 2:4 m0"),
        (7, "REDUCE 2:4"),
        (7, "REDUCE 2:4 w1"),
        (7, "REDUCE 2:4 w1:1,0"),
        (8, "TIE 0-3 w0 ~ w1"),
        (8, "TIE 0~3 w0 w1"),
        (8, "TIE 0~3 ~ w1"),
        (9, "COMMIT 1"),
        (10, "STEP"),
    ],
)
def test_parse_names_the_line(line: int, bad: str) -> None:
    lines = TEXT.splitlines()
    lines[line - 1] = bad
    with pytest.raises(ValueError, match=rf"line {line} of the program, '{bad}'"):
        Program.parse("\n".join(lines))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "plan worker=1",
        "program worker=1",
        "program worker=x generation=0 layers=4 micro_batches=2",
        "program worker generation=0 layers=4 micro_batches=2",
        "program worker=1 generation=0 layers=4 micro_batches=2 colour=3",
    ],
)
def test_parse_refuses_a_wrong_head(head: str) -> None:
    with pytest.raises(ValueError, match="program"):
        Program.parse("\n".join([head, *TEXT.splitlines()[1:]]))
