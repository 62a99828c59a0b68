"""The table from budget to step time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.swap.bound import lower_bound
from ithaca.swap.columns import Columns
from ithaca.swap.cost import CostTable, cost_table
from ithaca.swap.policy import Refusal, decide, smallest_budget
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link
from tests.helpers.memory_traces import random_trace

SEEDS = st.integers(0, 2**32).map(Random)
TABLE = CostTable("abcd", (100, 200, 400), (4.0, 2.0, 1.0))


@given(SEEDS)
@settings(deadline=None, max_examples=40)
def test_a_table_is_monotone_and_ends_at_no_cost(rng: Random) -> None:
    trace = random_trace(rng)
    table = cost_table(trace, rows=5)
    columns = Columns.of(trace)
    assert table.budget_bytes[0] == smallest_budget(trace)
    assert table.step_s[-1] == pytest.approx(float(columns.clock[-1]))
    assert CostTable.from_json(table.to_json()) == table
    budgets = sorted(rng.randint(table.budget_bytes[0], table.budget_bytes[-1]) for _ in range(6))
    seconds = [table.step_seconds(budget) or 0.0 for budget in budgets]
    assert seconds == sorted(seconds, reverse=True)
    for budget, predicted in zip(table.budget_bytes, table.step_s, strict=True):
        least = lower_bound(trace, budget)
        assert least is not None
        assert predicted >= least.step_s * (1 - 1e-6) - 1e-9


def test_between_rows_the_time_is_interpolated() -> None:
    asked = (99, 100, 150, 200, 300, 400, 10**9)
    assert [TABLE.step_seconds(budget) for budget in asked] == [None, 4.0, 3.0, 2.0, 1.5, 1.0, 1.0]
    assert [TABLE.slowdown(budget) for budget in asked] == [None, 4.0, 3.0, 2.0, 1.5, 1.0, 1.0]


@pytest.mark.parametrize("rate", [1e8, 3e8, 1e9])
def test_at_budgets_between_its_rows_it_is_near_the_policy(rate: float) -> None:
    trace = Transformer(8, 128, 384, sequence=64).trace([Link("disk", rate, rate)])
    table = cost_table(trace)
    low, high = table.budget_bytes[1], table.budget_bytes[-1]
    for share in (0.1, 0.35, 0.6, 0.85):
        budget = low + int(share * (high - low))
        plan = decide(trace, budget)
        assert not isinstance(plan, Refusal)
        assert table.step_seconds(budget) == pytest.approx(plan.step_s, rel=0.15)


@pytest.mark.parametrize(
    ("budgets", "seconds", "message"),
    [
        ((), (), "at least one"),
        ((1, 2), (1.0,), "as many budgets as times"),
        ((2, 1), (2.0, 1.0), "rise from row to row"),
        ((1, 1), (2.0, 1.0), "rise from row to row"),
        ((1, 2), (1.0, 2.0), "do not rise with the budget"),
    ],
)
def test_a_table_that_is_none_is_refused(
    budgets: tuple[int, ...], seconds: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CostTable("a", budgets, seconds)


@pytest.mark.parametrize("text", ["{}", "[]", "x", '{"sequence": "a", "rows": [[1]]}'])
def test_a_text_that_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        CostTable.from_json(text)
