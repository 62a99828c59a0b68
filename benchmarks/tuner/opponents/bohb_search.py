"""BOHB as in HpBandSter: its own density estimator and its own successive halving, asked in turn.

The library's optimizer wants a name server and workers; here its parts are driven directly, with
Hyperband's brackets as the library counts them (Falkner et al., arXiv 1807.01774).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hpbandster.core.dispatcher import Job
from hpbandster.optimizers.config_generators.bohb import BOHB as Generator
from hpbandster.optimizers.iterations import SuccessiveHalving

from benchmarks.tuner.opponents.config_space import config_space
from benchmarks.tuner.opponents.exchange import Asked, Begin, plain, serve


class Bohb:
    """One search: brackets one after the other."""

    def __init__(self, begin: Begin) -> None:
        ladder = begin.ladder
        if ladder is None:
            raise ValueError("BOHB needs fidelities")
        np.random.seed(begin.seed)  # the library draws from numpy's global generator
        self._ladder = ladder
        self._generator = Generator(config_space(begin))
        self._most = 1 + int(math.log(ladder.most / ladder.least) / math.log(ladder.factor) + 1e-9)
        spread = np.linspace(-(self._most - 1), 0, self._most)
        self._budgets = ladder.most * np.power(float(ladder.factor), spread)
        self._bracket: Any = None
        self._count = 0
        self._keys: dict[Any, int] = {}
        self._asked: Any = None

    def ask(self) -> Asked | None:
        """The next run of the bracket, or of a new one."""
        run = self._bracket.get_next_run() if self._bracket is not None else None
        while run is None:
            if self._bracket is not None and not self._bracket.is_finished:
                self._bracket.process_results()
            if self._bracket is None or self._bracket.is_finished:
                self._bracket = self._next()
            run = self._bracket.get_next_run()
        number, config, budget = run
        self._asked = (number, config, budget)
        key = self._keys.setdefault(number, len(self._keys))
        return Asked(key, plain(config), max(round(budget), 1))

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """Its loss."""
        del key, cost_s
        number, config, budget = self._asked
        job = Job(number, config=config, budget=budget, working_directory=".")
        job.time_it("submitted")
        job.time_it("started")
        job.time_it("finished")
        job.result = None if value is None else {"loss": -value, "info": {}}
        job.exception = None if value is not None else "out of time"
        self._bracket.register_result(job)
        self._generator.new_result(job)
        self._bracket.process_results()

    def _next(self) -> Any:  # noqa: ANN401 - the library's
        bracket = self._most - 1 - self._count % self._most
        first = math.floor(self._most / (bracket + 1)) * self._ladder.factor**bracket
        counts = [max(int(first * self._ladder.factor ** (-i)), 1) for i in range(bracket + 1)]
        made = SuccessiveHalving(
            HPB_iter=self._count,
            num_configs=counts,
            budgets=self._budgets[-bracket - 1 :],
            config_sampler=self._generator.get_config,
            result_logger=None,
        )
        self._count += 1
        return made


if __name__ == "__main__":
    serve(Bohb)
