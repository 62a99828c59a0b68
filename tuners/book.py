"""What a policy may know: for each arm its rewards, its failures, and the time spent on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ithaca.tuners.trial import Failure, State, Trial


@dataclass(slots=True)
class Account:
    """One arm's.

    Attributes:
        rewards: of each trial that has a value, its newest; higher is better.
        failures: of each trial that failed, why.
        costs: of each trial, seconds of its runs that ended.
        ended: runs that ended, whatever they brought.
        running: when each run under way began.
    """

    rewards: dict[int, float] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)
    ended: int = 0
    running: dict[int, float] = field(default_factory=dict)

    @property
    def spent_s(self) -> float:
        """Seconds of all runs that ended; the same whatever the order in which they did."""
        return math.fsum(self.costs.values())

    @property
    def pulls(self) -> int:
        """Trials that ended or run."""
        return len(self.rewards.keys() | self.failures.keys() | self.running.keys())

    @property
    def best(self) -> float | None:
        """The highest reward; None without one."""
        return max(self.rewards.values(), default=None)

    def used_s(self, now_s: float) -> float:
        """Seconds spent, runs under way included."""
        runs = [max(now_s - began, 0.0) for began in self.running.values()]
        return math.fsum([*self.costs.values(), *runs])

    def mean_cost_s(self, otherwise: float) -> float:
        """Mean seconds of a run; ``otherwise`` if none has ended."""
        return self.spent_s / self.ended if self.ended else otherwise


class Book:
    """The accounts of all arms, kept up as trials change.

    Args:
        arms: names, in order.
        budget_s: of the whole search; infinite without one.
        cap_s: longest time for a trial; infinite without one.
        workers: trials that run at once.
        maximize: whether high values are good.
    """

    def __init__(
        self,
        arms: Iterable[str],
        *,
        budget_s: float = float("inf"),
        cap_s: float = float("inf"),
        workers: int = 1,
        maximize: bool = True,
    ) -> None:
        self.accounts = {arm: Account() for arm in arms}
        self.budget_s = budget_s
        self.cap_s = cap_s
        self.workers = workers
        self.maximize = maximize

    @property
    def arms(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.accounts)

    def reward(self, value: float) -> float:
        """``value`` so that higher is better."""
        return value if self.maximize else -value

    def enter(self, before: Trial | None, after: Trial) -> None:
        """A trial changed; ``before`` is None for a new one."""
        account = self.accounts[after.arm]
        account.costs[after.number] = after.cost_s
        was = before is not None and before.state is State.RUNNING
        if was and after.state is not State.RUNNING:
            del account.running[after.number]
            account.ended += 1
        if after.state is State.RUNNING:
            account.running[after.number] = after.began_s
        if after.failure is not None:
            account.failures[after.number] = after.failure
            if after.failure is not Failure.TIME:
                account.rewards.pop(after.number, None)
        elif after.value is not None:
            account.rewards[after.number] = self.reward(after.value)

    def restore(self, trial: Trial, cost_s: float, began_s: float) -> None:
        """A trial of a state that was saved: ``cost_s`` of its runs that ended."""
        account = self.accounts[trial.arm]
        account.costs[trial.number] = cost_s
        account.ended += trial.runs - (trial.state is State.RUNNING)
        if trial.state is State.RUNNING:
            account.running[trial.number] = began_s
        if trial.failure is not None:
            account.failures[trial.number] = trial.failure
        if trial.value is not None and trial.failure in (None, Failure.TIME):
            account.rewards[trial.number] = self.reward(trial.value)

    def used_s(self, now_s: float) -> float:
        """Seconds of all arms, runs under way included."""
        return math.fsum(account.used_s(now_s) for account in self.accounts.values())

    def mean_cost_s(self) -> float | None:
        """Mean seconds of a run; None if none has ended."""
        ended = sum(account.ended for account in self.accounts.values())
        spent = math.fsum(account.spent_s for account in self.accounts.values())
        return spent / ended if ended else None

    def rewards(self) -> list[float]:
        """All of them, sorted: what is computed from them depends on no order."""
        return sorted(r for account in self.accounts.values() for r in account.rewards.values())

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not any(account.running for account in self.accounts.values())
