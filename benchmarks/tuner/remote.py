"""The other end of an opponent's process: see opponents/exchange.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "tuner"


class Remote:
    """A program of ``benchmarks.tuner.opponents`` in its environment, started when first needed.

    Args:
        environment: as ``python -m benchmarks.tuner.environments`` made it.
        program: module.
        words: for it.
    """

    def __init__(self, environment: str, program: str, words: Sequence[str] = ()) -> None:
        self._environment, self._program, self._words = environment, program, words
        self._process: subprocess.Popen[str] | None = None

    def begin(self, models: Mapping[str, Any], seed: int, ladder: Mapping[str, int] | None) -> None:
        """A new search."""
        self._say({"do": "begin", "models": models, "seed": seed, "ladder": ladder})

    def ask(self) -> tuple[int, dict[str, Any], int | None] | None:
        """Key, configuration, fidelity; None for nothing."""
        answer = self._say({"do": "ask"})
        return None if answer is None else (answer[0], answer[1], answer[2])

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """How it did."""
        self._say({"do": "tell", "key": key, "value": value, "cost_s": cost_s})

    def _say(self, order: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self._process = None
            raise RuntimeError(f"{self._program} ended with exit code {process.wait()}")
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        python = ENVIRONMENTS / self._environment / "bin" / "python"
        if not python.exists():
            raise RuntimeError(
                f"there is no environment {python.parents[1]}; make it with python -m "
                f"benchmarks.tuner.environments {self._environment}"
            )
        self._process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.tuner.opponents.{self._program}", *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self._process
