"""One run of a user's objective: what it is given, and how it tells how it is getting on."""

from __future__ import annotations

from collections.abc import Callable

from ithaca.tuners.space import Config, Value


class Pruned(Exception):
    """Raised by :meth:`Attempt.report` where the trial should end: others are better."""


class TimeUp(Exception):
    """Raised by :meth:`Attempt.report` where the trial has used its time."""


class Attempt:
    """A trial as an objective sees it: ``attempt["lr"]``, ``attempt.report(loss, step)``.

    Attributes:
        number: of the trial.
        arm: name of its arm.
        config: values by name.
        limit_s: how long it may take; None for no limit.
    """

    def __init__(
        self,
        number: int,
        arm: str,
        config: Config,
        limit_s: float | None,
        clock: Callable[[], float],
        leads: Callable[[int, int, float], bool] = lambda *_: True,
        rungs: tuple[int, ...] = (),
    ) -> None:
        self.number, self.arm, self.config, self.limit_s = number, arm, config, limit_s
        self.curve: list[tuple[int, float]] = []
        self._clock, self._began = clock, clock()
        self._leads, self._rungs = leads, rungs
        self._passed = 0

    def __getitem__(self, name: str) -> Value:
        """The value chosen for ``name``."""
        return self.config[name]

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def report(self, value: float, step: int) -> None:
        """Tell the value after ``step`` steps (epochs, rows); steps only grow.

        Raises:
            Pruned: the trial fell behind at a rung; let it pass.
            TimeUp: its time is used up; let it pass.
        """
        if self.curve and step <= self.curve[-1][0]:
            raise ValueError(f"step {step} was reported after step {self.curve[-1][0]}")
        self.curve.append((step, float(value)))
        for rung in self._rungs[self._passed :]:
            if step < rung:
                break
            self._passed += 1
            if not self._leads(self.number, rung, float(value)):
                raise Pruned(f"trial {self.number} fell behind at {rung}")
        if self.limit_s is not None and self.elapsed_s > self.limit_s:
            raise TimeUp(f"trial {self.number} has used its {self.limit_s:.3g} s")

    @property
    def rung(self) -> int | None:
        """The highest rung passed; None without one."""
        return self._rungs[self._passed - 1] if self._passed else None
