"""What a step takes at every budget: a table from bytes to seconds.

The planner asks it what a recovery would cost that needs more memory than there is. Between two
rows the time is interpolated; it never rises with the budget, since a plan for less memory also
runs in more.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass

from ithaca.swap.columns import Columns
from ithaca.swap.plan import Plan
from ithaca.swap.policy import EFFORT, Refusal, decide, smallest_budget
from ithaca.swap.trace import Trace


@dataclass(frozen=True)
class CostTable:
    """Predicted seconds of a step by budget.

    Args:
        sequence: hash of the step that it is about.
        budget_bytes: ascending; the first is the smallest for which there is a plan, and from
            the last on nothing has to move.
        step_s: for each budget; never rises.

    Raises:
        ValueError: the columns are empty, of unequal length, or not in order.
    """

    sequence: str
    budget_bytes: tuple[int, ...]
    step_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.budget_bytes or len(self.budget_bytes) != len(self.step_s):
            raise ValueError("a cost table has as many budgets as times, and at least one")
        if list(self.budget_bytes) != sorted(set(self.budget_bytes)):
            raise ValueError("the budgets of a cost table rise from row to row")
        if list(self.step_s) != sorted(self.step_s, reverse=True):
            raise ValueError("the times of a cost table do not rise with the budget")

    def step_seconds(self, budget_bytes: int) -> float | None:
        """Predicted seconds of a step under a budget; ``None`` below the smallest."""
        row = bisect_right(self.budget_bytes, budget_bytes) - 1
        if row < 0:
            return None
        if row == len(self.step_s) - 1:
            return self.step_s[-1]
        low, high = self.budget_bytes[row], self.budget_bytes[row + 1]
        share = (budget_bytes - low) / (high - low)
        return self.step_s[row] + share * (self.step_s[row + 1] - self.step_s[row])

    def slowdown(self, budget_bytes: int) -> float | None:
        """Step time under a budget over that without one; ``None`` below the smallest."""
        seconds = self.step_seconds(budget_bytes)
        return None if seconds is None else seconds / self.step_s[-1] if self.step_s[-1] else 1.0

    def to_json(self) -> str:
        """A text that :meth:`from_json` reads."""
        rows = [list(row) for row in zip(self.budget_bytes, self.step_s, strict=True)]
        return json.dumps({"sequence": self.sequence, "rows": rows})

    @classmethod
    def from_json(cls, text: str) -> CostTable:
        """The table that :meth:`to_json` wrote; ``ValueError`` if it is none."""
        try:
            data = json.loads(text)
            rows = [(int(budget), float(seconds)) for budget, seconds in data["rows"]]
            budgets, seconds = zip(*rows, strict=True) if rows else ((), ())
            return cls(data["sequence"], budgets, seconds)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a cost table: {error!r}") from error


def cost_table(trace: Trace, rows: int = 13, effort: int = EFFORT) -> CostTable:
    """The table of ``trace``, with ``rows`` budgets from the smallest to what it takes alone.

    Rows lie closer together near the smallest budget, where the time changes most.
    """
    most = int(Columns.of(trace).keep_all().max(initial=0))
    least = smallest_budget(trace)
    shares = [(row / (rows - 1)) ** 1.5 for row in range(rows)] if rows > 1 else [1.0]
    budgets = sorted({least + round(share * (most - least)) for share in shares})
    seconds: list[float] = []
    for budget in budgets:
        plan = decide(trace, budget, effort)
        assert not isinstance(plan, Refusal)
        step_s = plan.step_s + _waits(plan, trace)
        # The plan of a smaller budget may be the better one; it can be used here too.
        seconds.append(min(step_s, seconds[-1]) if seconds else step_s)
    return CostTable(trace.sequence, tuple(budgets), tuple(seconds))


def _waits(plan: Plan, trace: Trace) -> float:
    """Seconds that what the plan moves, out and back, was seen to cost beyond its forecast.

    State that the plan says nothing of is moved by the optimizer's step, which waits for all of it.
    """
    waits = {link.tier: link.wait_s_per_byte for link in trace.links}
    known = sum(2 * d.nbytes * waits[d.tier] for d in plan.decisions if d.tier is not None)
    if not trace.links or plan.state_away is not None:
        return known
    link = trace.links[0]
    return known + trace.paged_bytes * (1 / link.out_bytes_per_s + 1 / link.in_bytes_per_s)
