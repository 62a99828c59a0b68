"""What a session did: bytes against the budget, copies, waits, and what was decided and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ithaca.swap import allocator
from ithaca.swap.plan import Action, Plan
from ithaca.swap.size import show_bytes
from ithaca.swap.timeline import timeline
from ithaca.swap.trace import Trace

if TYPE_CHECKING:
    from ithaca.swap.planning import Planning


@dataclass(frozen=True)
class Report:
    """The state of a session.

    Args:
        budget_bytes: given.
        peak_bytes: counted; never above the budget.
        steps: ended.
        retries: steps that were tried again.
        plans: the newest plan of every way in which the model was called.
        refusals: by the same names: why there is none.
        counters: of the vault and the disk, by name; bytes, nanoseconds and numbers of events.
        traces: by the same names as plans: the step that each was made for.
    """

    budget_bytes: int
    peak_bytes: int
    steps: int
    retries: int
    plans: dict[str, Plan] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, budget_bytes: int, steps: int, retries: int, planning: Planning) -> Report:
        """The report of the session that is open."""
        counters = allocator.operators().memory_counters()
        return cls(
            budget_bytes,
            allocator.usage().peak,
            steps,
            retries,
            planning.plans(),
            planning.refusals(),
            {name: counters[name] for name in sorted(counters)},
            {str(called): trace for called, trace in planning.traces.items()},
        )

    @property
    def plan_hits(self) -> float:
        """Share of saved storages that were found in the plan in force; 1 if there was none."""
        hits, misses = self.counters.get("hits", 0), self.counters.get("misses", 0)
        misses += self.counters.get("nearby", 0)
        return hits / (hits + misses) if hits + misses else 1.0

    @property
    def exposed_s(self) -> float:
        """Seconds that training waited for copies."""
        return self.counters.get("wait_ns", 0) / 1e9

    @property
    def copy_s(self) -> float:
        """Seconds in which copies ran, hidden or not."""
        names = ("disk_write_ns", "disk_read_ns", "host_out_ns", "host_in_ns")
        return sum(self.counters.get(name, 0) for name in names) / 1e9

    @property
    def hidden_s(self) -> float:
        """Seconds of copies that nobody waited for."""
        return max(0.0, self.copy_s - self.exposed_s)

    @property
    def recompute_s(self) -> float:
        """Seconds that computing again takes in a step, as planned for the slowest way to call."""
        return max((plan.recompute_s for plan in self.plans.values()), default=0.0)

    def decisions(self, most: int = 20) -> str:
        """What was decided for the largest tensors of every plan, and why; a line each."""
        lines = []
        for name, plan in self.plans.items():
            lines.append(f"{name}: {len(plan.decisions)} tensors")
            largest = sorted(plan.decisions, key=lambda part: (-part.nbytes, str(part.identity)))
            for part in largest[:most]:
                where = part.tier or part.replay or ""
                what = f"{part.action.value} {where}".rstrip()
                size = show_bytes(part.nbytes)
                lines.append(f"  {size:>11}  {what:<28}  {part.reason:<20}  {part.identity}")
            if len(largest) > most:
                lines.append(f"  and {len(largest) - most} smaller ones")
        return "\n".join(lines)

    def timeline(self) -> dict[str, dict[str, Any]]:
        """For every plan its step as a trace that Perfetto opens, once written as JSON."""
        return {
            name: timeline(self.traces[name], plan)
            for name, plan in self.plans.items()
            if name in self.traces
        }

    def __str__(self) -> str:
        count = self.counters.get
        lines = [
            f"memory: peak {show_bytes(self.peak_bytes)} of {show_bytes(self.budget_bytes)}, "
            f"{self.steps} steps, {self.retries} tried again",
            f"  moved out {show_bytes(count('out_bytes', 0) + count('state_out_bytes', 0))}, "
            f"in {show_bytes(count('in_bytes', 0) + count('state_in_bytes', 0))}; "
            f"written to disk {show_bytes(count('disk_written', 0))}",
            f"  copies {self.copy_s:.2f} s: {self.hidden_s:.2f} s hidden, "
            f"{self.exposed_s:.2f} s waited for; computing again {self.recompute_s * 1e3:.0f} ms "
            f"a step as planned, {count('replays', 0)} times so far",
            f"  plan hits {self.plan_hits:.1%}",
        ]
        for name, plan in self.plans.items():
            parts = ", ".join(
                f"{action.value} {show_bytes(plan.bytes_of(action))}" for action in Action
            )
            lines.append(f"  {name}: {parts}; predicted {plan.step_s * 1e3:.0f} ms a step")
        lines += [f"  {name}: no plan, {reason}" for name, reason in self.refusals.items()]
        return "\n".join(lines)
