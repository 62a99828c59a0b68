"""Twenty pairs of BREC under one seed: realised is what is exact, and copies are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.graphs.brec import CATEGORIES, PAIRS, Pair, category_of, read_brec
from benchmarks.graphs.cfi import BASES, cfi_pair
from benchmarks.graphs.copies import copies, permutations
from benchmarks.graphs.exact import WIDEST, adaptive, told_apart
from benchmarks.graphs.protocol import THRESHOLD, Outcome, Setting, run_pair, t_square
from benchmarks.graphs.realised import KEY, Job, outcome_of, realise, row_of, table
from benchmarks.recovery_study.sheet import Sheet
from ithaca.workloads.csgnn.graph6 import read_graph6
from ithaca.workloads.csgnn.graphs import Graphs, relabelled, together
from ithaca.workloads.csgnn.structure import ProfileShape, profile

SETTING = Setting(epochs=1)
BEYOND = {300, 340}
"""Pairs by Cai, Fuerer and Immerman that colour refinement does not tell apart either."""


def read_slice() -> list[Pair]:
    """The twenty pairs."""
    lines: dict[int, list[str]] = {}
    for line in (Path(__file__).parent / "brec_pairs.txt").read_text().splitlines():
        if not line.startswith("# "):
            number, _, graph = line.partition(" ")
            lines.setdefault(int(number), []).append(graph)
    return [Pair(n, category_of(n), read_graph6(both)) for n, both in lines.items()]


PAIR = {pair.number: pair for pair in read_slice()}


def test_the_slice_has_every_category() -> None:
    assert len(PAIR) == 20
    assert {pair.category for pair in PAIR.values()} == set(CATEGORIES)
    assert category_of(PAIRS - 1) == "Distance regular"
    with pytest.raises(ValueError, match=r"the pairs 0\.\.399"):
        category_of(PAIRS)


def test_exact() -> None:
    graphs = together([pair.graphs for pair in PAIR.values()])
    apart = told_apart(graphs, profile(graphs, WIDEST).whole())
    assert {n for n, yes in zip(PAIR, apart, strict=True) if not yes} == BEYOND


def test_longer_paths_within_the_budget_go_further() -> None:
    """A pair that the widest profile leaves alone, and a graph with its copy as the control."""
    pair, deep = PAIR[300], ProfileShape(path=16, cycle=0)
    assert [found[1:] for found in adaptive([pair], deep)] == [(False, True)]
    cut = ProfileShape(path=16, cycle=0, budget=100_000)
    assert [found[1:] for found in adaptive([pair], cut)] == [(False, False)]
    graph = pair.graphs.take(torch.tensor([0]))
    other = relabelled(graph, torch.Generator().manual_seed(1))
    copy = Pair(300, "copy", together([graph, other]))
    assert [found[1:] for found in adaptive([copy], deep)] == [(False, False)]


@pytest.mark.parametrize("number", PAIR)
def test_realised(number: int) -> None:
    outcome = run_pair(PAIR[number], SETTING, seed=100)
    assert outcome.reliable
    assert outcome.told_apart is (number not in BEYOND)
    assert outcome.error < 1e-5


@pytest.mark.parametrize("number", [0, 60, 110, 200])
def test_a_graph_and_its_copy_never_pass(number: int) -> None:
    """Control: what is told apart is the structure and not the labels."""
    graph = PAIR[number].graphs.take(torch.tensor([0]))
    other = relabelled(graph, torch.Generator().manual_seed(1))
    assert not run_pair(Pair(number, "copy", together([graph, other])), SETTING, 100).told_apart


def test_copies_have_the_profile_that_a_search_finds() -> None:
    graph = PAIR[110].graphs.take(torch.tensor([0]))
    shape = ProfileShape(4, 6)
    news = permutations(graph, 5, torch.Generator().manual_seed(0))
    made, found = copies(graph, profile(graph, shape), news)
    searched = profile(made, shape)
    for name in ("first", "other", "row", "table", "reach"):
        assert torch.equal(getattr(found, name), getattr(searched, name))
    assert len({made.edges.numpy().tobytes()}) == 1
    with pytest.raises(AssertionError):
        assert torch.equal(copies(graph, profile(graph, shape), news[::-1])[1].row, searched.row)


def test_t_square_is_hotellings() -> None:
    generator = torch.Generator().manual_seed(0)
    one, noise = (torch.randn(32, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    apart = noise + torch.tensor([1.0, 0.0, 0.0])
    mean = apart.mean(0)
    expected = mean @ torch.linalg.inv(apart.t().cov()) @ mean
    assert t_square(one + apart, one) == pytest.approx(expected.item())
    assert t_square(one + 1e3 * apart, one) == pytest.approx(expected.item())


def test_pairs_of_our_own_are_pairs() -> None:
    for name in BASES:
        plain, twisted = (cfi_pair(name).take(torch.tensor([i])) for i in (0, 1))
        assert plain.vertices == twisted.vertices
        assert torch.bincount(plain.edges.flatten()).sort().values.tolist() == (
            torch.bincount(twisted.edges.flatten()).sort().values.tolist()
        )


OUTCOME = Outcome(100, 0, "Basic", 100.0, 1.0, 0.5, 1, 1e-9, 0.1)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"apart": THRESHOLD}, False),
        ({"alike": THRESHOLD}, False),
        ({"apart": 100.0, "alike": 100.0}, False),
        ({"apart": float("nan")}, False),
    ],
)
def test_both_tests_have_to_pass(changes: dict[str, float], passed: bool) -> None:
    assert replace(OUTCOME, **changes).passed is passed  # type: ignore[arg-type]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "brec.csv"
    jobs = [Job(PAIR[number], Setting(epochs=0, path=2, cycle=4), 100) for number in (0, 20)]
    first = list(realise(jobs[:1], Sheet(path, Outcome.columns(), KEY), workers=0))
    again = Sheet(path, Outcome.columns(), KEY)
    assert ("100", "0") in again
    assert [str(outcome_of(row)) for row in again.rows] == [str(one) for one in first]
    list(realise(jobs[1:], again, workers=0))
    assert len(Sheet(path, Outcome.columns(), KEY).rows) == 2
    assert "1 whole seeds: mean" in table(again.rows)
    assert row_of(first[0])["category"] == "Basic"


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"basic\.npy is missing"):
        read_brec(tmp_path)
    assert Graphs.of([]).count == 0
