"""Which plan is in force: known sequences at once, new ones a step after they were observed.

A sequence that was never seen runs passively (the oldest saved tensors leave when room is needed)
and is observed in detail; the plan is made beside the next step and is in force from the one
after. Decisions are found by name, so that a plan also serves a step that runs only partly as
planned; what it does not name is passive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ithaca.swap import allocator
from ithaca.swap.blocks import BlockRun
from ithaca.swap.plan import Plan
from ithaca.swap.policy import Refusal, decide
from ithaca.swap.replays import Speed, with_blocks, with_operators
from ithaca.swap.sequence import (
    Names,
    made_of,
    makers_of,
    rows_of,
    trace_of,
    triggers_of,
    with_states,
)
from ithaca.swap.signature import Signature
from ithaca.swap.trace import Link, Trace
from ithaca.swap.waits import Waits

# Plans are kept for so many ways to call the model.
MOST_KNOWN = 256
# Contents that are remembered for each of them, and the share of saves that may miss the plan
# before a step is looked at again when there are more.
MOST_CONTENTS, MOST_MISSES = 16, 0.02
# Of the thread that plans.
STACK_BYTES = 1 << 20
# Before anything was copied.
ASSUMED_BYTES_PER_S = 1e9
# The plan leaves this share for what it cannot foresee; of the budget without what is there all the
# time, which needs no foresight.
HEADROOM = 0.03
# By so much of the budget a plan is smaller after each refusal, and how much is the most.
TIGHTER, TIGHTEST = 0.08, 0.17


@dataclass
class _Known:
    """One way to call the model."""

    number: int
    contents: set[int] = field(default_factory=set)
    # By key and look: the identities of saved tensors.
    rows: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    plan: Plan | None = None
    refusal: Refusal | None = None

    @property
    def replays(self) -> frozenset[str]:
        """Names of what the plan computes again."""
        decisions = self.plan.decisions if self.plan else ()
        return frozenset(decision.replay for decision in decisions if decision.replay)


class Planning:
    """Keeps the plans of a session.

    Args:
        modules: names of the borders, in the observer's order.
        budget_bytes: of the session.
        held: parameters and buffers, and gradients, in bytes, now.
        inputs: of the blocks that ran in this step: the names of their inputs' storages.
        disk: whether there is one; without it, what has no plan is computed again.
        recompute: whether blocks and single operators may be run again.
    """

    def __init__(
        self,
        modules: tuple[str, ...],
        budget_bytes: int,
        held: Callable[[], tuple[int, int]],
        inputs: Callable[[], dict[BlockRun, tuple[int, ...]]],
        disk: bool,
        recompute: bool = True,
    ) -> None:
        self._recompute, self._speed = recompute, Speed()
        self._inputs, self._disk = inputs, disk
        self._everything = False
        self._replays: frozenset[str] | None = None
        self.slot = -1
        self._start = self._hits = self._misses = 0
        self._names = Names(modules)
        self._budget = budget_bytes
        self._tightened = 0.0
        self._held = held
        self._known: dict[Signature, _Known] = {}
        self._numbers = 0
        self._first: _Known | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ithaca-swap-policy")
        self._pending: list[tuple[_Known, Future[tuple[Plan | Refusal, list[int]]]]] = []
        self.traces: dict[Signature, Trace] = {}
        self.decided = 0
        self._waits = Waits()
        self._foreseen_s: float | None = None

    def begin(self, called: Signature, detailed: bool) -> None:
        """The model is called: the plan for such calls comes into force, if there is one.

        ``detailed``: whether this step is observed in detail in any case.
        """
        self.slot += 1
        known = self._known.get(called)
        if known is None:
            if len(self._known) == MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            known = self._known[called] = _Known(self._numbers)
            self._numbers += 1
        ops = allocator.operators()
        ops.memory_use_plan(known.number)
        self._replays = known.replays if known.plan is not None else None
        if called.grad and self._first is None:
            self._first = known
            new = known.plan is None and known.refusal is None
            if new:
                ops.memory_detail()
            if new or detailed:
                self._start = self._floating()
            self._foreseen_s = known.plan.stall_s if known.plan and not detailed else None

    def recomputes(self, run: BlockRun) -> bool:
        """Whether what this run of a block saves is dropped, as far as the plan agrees."""
        if self._everything:
            return True
        if self._replays is None:
            return not self._disk
        first = BlockRun(run.module, 0, run.visit)
        return str(run) in self._replays or str(first) in self._replays

    def end_step(self, later_bytes: int = 0) -> bool:
        """Takes up what the step showed; whether the next one should be observed in detail.

        ``later_bytes``: what coming steps hold all the time beyond this one.
        """
        self.settle()
        self.slot = -1
        known, self._first = self._first, None
        foreseen_s, self._foreseen_s = self._foreseen_s, None
        ops = allocator.operators()
        numbers = ops.memory_counters()
        self._waits.take(numbers, foreseen_s)
        if known is None:
            return False
        content = content_of()
        missed = numbers["misses"] + numbers["nearby"]
        hits, misses = numbers["hits"] - self._hits, missed - self._misses
        self._hits, self._misses = numbers["hits"], missed
        # Where every step is another, as with random routing, it only matters what is not planned.
        usual = len(known.contents) >= MOST_CONTENTS and misses <= MOST_MISSES * (hits + misses)
        new = content not in known.contents and not usual
        if len(known.contents) < MOST_CONTENTS:
            known.contents.add(content)
        moments = ops.memory_moments().tolist()
        if len(moments) > 1:
            self._observe(known, moments, later_bytes)
            return False
        return new

    def _floating(self) -> int:
        """Bytes that are not in the vault's care and are no gradients."""
        managed: int = allocator.operators().memory_counters()["managed_bytes"]
        return allocator.usage().allocated - managed - self._held()[1]

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
            allocator.operators().memory_store_plan(known.number, flat, result.state_away)

    def _observe(self, known: _Known, moments: list[list[int]], later_bytes: int) -> None:
        ops = allocator.operators()
        persistent, gradients = self._held()
        runs = ops.memory_runs().tolist()
        links = self._links()
        trace = trace_of(self._names, runs, moments, links, persistent, gradients)
        trace = with_states(trace, ops.memory_state_sizes().flatten().tolist())
        if self._recompute:
            makers = makers_of(self._names, moments)
            self._speed.observe(trace, makers, made_of(self._names, moments))
            trace = with_operators(trace, makers, self._speed.bytes_per_s)
            inputs = {
                run: tuple(self._names.identity(key, key, 0) for key in keys)
                for run, keys in self._inputs().items()
            }
            trace = with_blocks(trace, inputs)
        # What coming steps hold and this one did not, or not from its begin on: state that the
        # first step of an optimizer leaves behind, and what the caller foresees.
        grown = max(0, self._floating() - self._start) + later_bytes
        if grown > 0:
            points = (replace(part, base_bytes=part.base_bytes + grown) for part in trace.points)
            trace = replace(trace, points=tuple(points))
        for called, entry in self._known.items():
            if entry is known:
                self.traces[called] = trace
        self._submit(known, trace)

    def _submit(self, known: _Known, trace: Trace) -> None:
        budget = spendable(trace, self._budget) - int(self._tightened * self._budget)
        before = threading.stack_size(STACK_BYTES)  # the usual 8 MiB count against RLIMIT_DATA
        try:
            future = self._worker.submit(_decide, trace, budget, self._names)
        finally:
            threading.stack_size(before)
        self._pending.append((known, future))

    def _links(self) -> tuple[Link, ...]:
        numbers = allocator.operators().memory_counters()

        def speed(moved: str, busy: str) -> float:
            if numbers[busy] == 0 or numbers[moved] == 0:
                return ASSUMED_BYTES_PER_S
            return float(numbers[moved]) / float(numbers[busy]) * 1e9

        links = []
        if numbers.get("host_limit"):
            out = speed("host_out_bytes", "host_out_ns")
            back = speed("host_in_bytes", "host_in_ns")
            links.append(Link("pinned", out, back, capacity_bytes=numbers["host_limit"]))
        if "disk_written" in numbers:
            out = speed("disk_written", "disk_write_ns")
            back = speed("disk_read", "disk_read_ns")
            links.append(Link("disk", out, back, through="pinned" if links else None))
        return tuple(links)

    def seen(self) -> tuple[Trace, ...]:
        """The steps that were observed, with what copies were seen to cost."""
        waits = self._waits.s_per_byte
        return tuple(
            replace(t, links=tuple(replace(link, wait_s_per_byte=waits) for link in t.links))
            for t in self.traces.values()
        )

    def tighten(self) -> bool:
        """Saves more from now on, for a smaller budget; whether that can change anything."""
        if self._tightened > TIGHTEST:
            return False
        self._everything = not self._disk
        self.slot = -1
        self._tightened += TIGHTER
        for called, trace in self.traces.items():
            known = self._known.get(called)
            if known is not None:
                self._submit(known, trace)
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


def spendable(trace: Trace, budget_bytes: int) -> int:
    """What a plan for ``trace`` may use of a budget, in bytes."""
    lasting = min((point.base_bytes for point in trace.points), default=0)
    return budget_bytes - int(HEADROOM * max(0, budget_bytes - lasting))


def content_of() -> int:
    """Hash of what ran in this step: operators and what was saved, in their segments, in order."""
    content: int = allocator.operators().memory_hash()
    return content


def _merge(rows: dict[tuple[int, int], list[int]], flat: list[int]) -> None:
    """Adds the rows of a newer plan, which takes precedence."""
    at = 0
    while at < len(flat):
        end = at + 4 + flat[at + 3]
        rows[flat[at], flat[at + 1]] = flat[at:end]
        at = end
