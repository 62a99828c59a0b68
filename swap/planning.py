"""Which plan is in force: known sequences at once, new ones a step after they were observed.

A sequence that was never seen runs passively (the oldest saved tensors leave when room is needed)
and is observed in detail; the plan is made beside the next step and is in force from the one
after. Decisions are found by name, so that a plan also serves a step that runs only partly as
planned; what it does not name is passive.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ithaca.swap import allocator
from ithaca.swap.plan import Plan
from ithaca.swap.policy import Refusal, decide
from ithaca.swap.sequence import Names, rows_of, trace_of, triggers_of
from ithaca.swap.signature import Signature
from ithaca.swap.trace import Link, Trace

# Plans are kept for so many ways to call the model.
MOST_KNOWN = 256
# Before anything was copied.
ASSUMED_BYTES_PER_S = 1e9
# The plan leaves this share of the budget for what it cannot foresee.
HEADROOM = 0.03


@dataclass
class _Known:
    """One way to call the model."""

    number: int
    contents: set[int] = field(default_factory=set)
    rows: dict[int, list[int]] = field(default_factory=dict)
    plan: Plan | None = None
    refusal: Refusal | None = None


class Planning:
    """Keeps the plans of a session.

    Args:
        modules: names of the borders, in the observer's order.
        budget_bytes: of the session.
        held: parameters and buffers, and gradients, in bytes, now.
    """

    def __init__(
        self, modules: tuple[str, ...], budget_bytes: int, held: Callable[[], tuple[int, int]]
    ) -> None:
        self._names = Names(modules)
        self._budget = budget_bytes
        self._headroom = HEADROOM
        self._held = held
        self._known: dict[Signature, _Known] = {}
        self._numbers = 0
        self._first: _Known | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ithaca-swap-policy")
        self._pending: list[tuple[_Known, Future[tuple[Plan | Refusal, list[int]]]]] = []
        self.traces: dict[Signature, Trace] = {}
        self.decided = 0

    def begin(self, called: Signature) -> None:
        """The model is called: the plan for such calls comes into force, if there is one."""
        known = self._known.get(called)
        if known is None:
            if len(self._known) == MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            known = self._known[called] = _Known(self._numbers)
            self._numbers += 1
        ops = allocator.operators()
        ops.memory_use_plan(known.number)
        if called.grad and self._first is None:
            self._first = known
            if not known.rows and known.refusal is None:
                ops.memory_detail()

    def end_step(self) -> bool:
        """Takes up what the step showed; whether the next one should be observed in detail."""
        self.settle()
        known, self._first = self._first, None
        if known is None:
            return False
        ops = allocator.operators()
        content = ops.memory_hash()
        new = content not in known.contents
        known.contents.add(content)
        moments = ops.memory_moments().tolist()
        if len(moments) > 1:
            self._observe(known, moments)
            return False
        return new

    def settle(self) -> None:
        """Waits for plans that are being made, and puts them in force."""
        pending, self._pending = self._pending, []
        for known, future in pending:
            result, rows = future.result()
            self.decided += 1
            if isinstance(result, Refusal):
                known.refusal = result
                continue
            known.plan, known.refusal = result, None
            _merge(known.rows, rows)
            flat = [number for row in known.rows.values() for number in row]
            allocator.operators().memory_store_plan(known.number, flat)

    def _observe(self, known: _Known, moments: list[list[int]]) -> None:
        ops = allocator.operators()
        persistent, gradients = self._held()
        runs = ops.memory_runs().tolist()
        links = self._links()
        trace = trace_of(self._names, runs, moments, links, persistent, gradients)
        for called, entry in self._known.items():
            if entry is known:
                self.traces[called] = trace
        budget = int(self._budget * (1 - self._headroom))
        self._pending.append((known, self._worker.submit(_decide, trace, budget, self._names)))

    def _links(self) -> tuple[Link, ...]:
        numbers = allocator.operators().memory_counters()
        if "disk_written" not in numbers:
            return ()

        def speed(moved: str, busy: str) -> float:
            if numbers[busy] == 0 or numbers[moved] == 0:
                return ASSUMED_BYTES_PER_S
            return float(numbers[moved]) / float(numbers[busy]) * 1e9

        return (
            Link(
                "disk",
                speed("disk_written", "disk_write_ns"),
                speed("disk_read", "disk_read_ns"),
            ),
        )

    def tighten(self) -> bool:
        """Plans for a smaller budget from now on; whether that can change anything."""
        if self._headroom > 0.2:
            return False
        self._headroom += 0.08
        for called, trace in self.traces.items():
            known = self._known.get(called)
            if known is not None:
                budget = int(self._budget * (1 - self._headroom))
                self._pending.append(
                    (known, self._worker.submit(_decide, trace, budget, self._names))
                )
        self._first = None
        self.settle()
        return True

    def plans(self) -> dict[str, Plan]:
        """The newest plan for each way in which the model was called."""
        return {str(called): known.plan for called, known in self._known.items() if known.plan}

    def refusals(self) -> dict[str, str]:
        """Why there is no plan, likewise."""
        return {
            str(called): str(known.refusal)
            for called, known in self._known.items()
            if known.refusal
        }

    def close(self) -> None:
        """Ends the thread that plans."""
        self._worker.shutdown(wait=True, cancel_futures=True)


def _decide(trace: Trace, budget: int, names: Names) -> tuple[Plan | Refusal, list[int]]:
    result = decide(trace, budget)
    if isinstance(result, Refusal):
        return result, []
    return result, rows_of(result, names, triggers_of(result, trace))


def _merge(rows: dict[int, list[int]], flat: list[int]) -> None:
    """Adds the rows of a newer plan, which takes precedence."""
    at = 0
    while at < len(flat):
        end = at + 4 + flat[at + 3]
        rows[flat[at]] = flat[at:end]
        at = end
