"""A language model whose training stands still before a step until a gate is open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from ithaca.runtime.workload import Batch, BatchId, Split
from ithaca.workloads.lm.config import LMConfig
from ithaca.workloads.lm.workload import LM

PATIENCE_S = 120.0


class GatedConfig(LMConfig):
    """``gate``: a file that is there when it is open; ``behind``: steps done before it."""

    gate: Path
    behind: int


class GatedLM(LM):
    """Who is at the gate cannot have ended when a signal reaches it."""

    Config: ClassVar[type[LMConfig]] = GatedConfig

    def __init__(self, config: GatedConfig, *, seed: int, micro_batches: int) -> None:
        super().__init__(config, seed=seed, micro_batches=micro_batches)
        self._gate, self._behind = config.gate, config.behind

    def batch(self, which: BatchId) -> Batch:
        if which.split is Split.TRAIN and which.step == self._behind:
            until = time.monotonic() + PATIENCE_S
            while not self._gate.exists():
                if time.monotonic() > until:
                    raise TimeoutError(f"{self._gate} was not there within {PATIENCE_S:g} s")
                time.sleep(0.01)
        return super().batch(which)
