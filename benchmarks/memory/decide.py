"""How long a decision takes: ``python benchmarks/memory/decide.py [--rounds N]``.

About 1,000 saved tensors (77 transformer blocks on paper), budgets and link speeds at which the
policy has to try all it tries. Wall time and processor time, medians; lower bounds beside them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

from ithaca.swap.bound import lower_bound
from ithaca.swap.columns import Columns
from ithaca.swap.policy import Refusal, decide
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link


def medians(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Milliseconds of wall and processor time of a call."""
    wall, processor = [], []
    for _ in range(rounds):
        began = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - began[0]))
        processor.append(1e3 * (time.process_time() - began[1]))
    return statistics.median(wall), statistics.median(processor)


def main() -> None:
    """Prints a line for each link speed and budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for rate in (0.1, 0.3, 1.0):
        trace = Transformer(77, 512, 1376).trace([Link("disk", rate * 1e9, rate * 1e9, 1e-4)])
        fixed = trace.persistent_bytes + trace.gradient_bytes
        peak = int(Columns.of(trace).keep_all().max())
        for share in (60, 40, 25, 15):
            budget = fixed + (peak - fixed) * share // 100
            plan, least = decide(trace, budget), lower_bound(trace, budget)
            assert not isinstance(plan, Refusal)
            assert least is not None
            wall, processor = medians(partial(decide, trace, budget), rounds)
            print(
                f"{len(trace.saved)} tensors, {rate} GB/s, {share} %: {wall:.0f} ms wall, "
                f"{processor:.0f} ms processor; {plan.step_s / least.step_s:.3f} x the bound"
            )


if __name__ == "__main__":
    main()
