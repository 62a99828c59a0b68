"""How an opponent in an environment of its own is asked: one JSON object a line, in and out.

``begin`` has a space of each model by name ("" where there is one model only), a seed and the
ladder of fidelities or null; ``ask`` is answered with a key, a configuration and how far to train,
or null; ``tell`` has the key and a value, high is good, null for one that ran out of time. Nothing
here imports the product: the environments do not have it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Config = dict[str, Any]


@dataclass(frozen=True)
class Ladder:
    """Fidelities from ``least`` to ``most``; one of ``factor`` goes on."""

    least: int
    most: int
    factor: int


@dataclass(frozen=True)
class Begin:
    """A search: parameters by model, as in a file of ``ithaca tune``."""

    models: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seed: int
    ladder: Ladder | None


@dataclass(frozen=True)
class Asked:
    """What to evaluate: the same key again means that the same training goes on."""

    key: int
    config: Config
    fidelity: int | None = None


class Opponent(Protocol):
    """A search of somebody else."""

    def ask(self) -> Asked | None:
        """What is next."""

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """How it did."""


def full_name(model: str, name: str) -> str:
    """A parameter's name where all models are in one space."""
    return f"{model}:{name}" if model else name


def plain(config: Mapping[str, Any]) -> Config:
    """A configuration of the one space as one of its model."""
    model = str(config.get("model", ""))
    own = {
        key.removeprefix(f"{model}:") if model else key: value
        for key, value in config.items()
        if key != "model" and value is not None and (not model or key.startswith(f"{model}:"))
    }
    return ({"model": model} if model else {}) | {
        key: value.item() if hasattr(value, "item") else value for key, value in own.items()
    }


def serve(make: Callable[[Begin], Opponent]) -> None:
    """Answer until the input ends. What libraries print goes to standard error."""
    out, sys.stdout = sys.stdout, sys.stderr
    opponent: Opponent | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: Any = True
        if order["do"] == "begin":
            ladder = Ladder(**order["ladder"]) if order["ladder"] else None
            opponent = make(Begin(order["models"], order["seed"], ladder))
        elif opponent is None:
            raise RuntimeError(f"{order['do']} before begin")
        elif order["do"] == "ask":
            asked = opponent.ask()
            answer = None if asked is None else [asked.key, asked.config, asked.fidelity]
        else:
            opponent.tell(order["key"], order["value"], order["cost_s"])
        out.write(json.dumps(answer) + "\n")
        out.flush()
