"""One cell: a player on a table with a budget and a seed, on a simulated clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from benchmarks.tuner.players import PLAYERS, Player
from benchmarks.tuner.table import Table, names, open_table

COLUMNS = (
    "part", "table", "player", "budget", "seed", "auc", "final", "evaluations", "own_seconds",
)  # fmt: skip
KEY = COLUMNS[:5]
BUDGETS = (20, 60, 200)
"""Times the mean cost of a random configuration."""


@dataclass(frozen=True)
class Cell:
    """What is computed at once."""

    part: str
    kind: str
    dataset: str
    player: str
    budget: int
    seed: int

    @property
    def drawn(self) -> int:
        """The player's seed: another one on every set, or the luck of a seed's first random
        configurations were the same on all sets, and sets no independent samples."""
        text = f"{self.kind}/{self.dataset}/{self.seed}"
        return int.from_bytes(sha256(text.encode()).digest()[:4]) % 2**31

    @property
    def key(self) -> tuple[str, ...]:
        """As it stands in the file."""
        table = f"{self.kind}/{self.dataset}"
        return self.part, table, self.player, str(self.budget), str(self.seed)


def cells(
    part: str, task: str, budgets: tuple[int, ...], seeds: int, players: list[str]
) -> list[Cell]:
    """All cells, so that what is there after any time is balanced: seeds and sets first."""
    sets = [(kind, each) for kind, many in names(part, task).items() for each in many]
    return [
        Cell(part, kind, dataset, player, budget, seed)
        for budget in budgets
        for seed in range(seeds)
        for kind, dataset in sets
        for player in players
        if PLAYERS[player].fits(task, kind, budget, seed)
    ]


@cache
def _table(kind: str, dataset: str, data: Path) -> Table:
    return open_table(kind, dataset, data)


def run(cell: Cell, data: Path) -> dict[str, str]:
    """The row of a cell."""
    table = _table(cell.kind, cell.dataset, data)
    budget_s = cell.budget * table.cost_s
    player = PLAYERS[cell.player].make(table, budget_s, cell.drawn)
    began = time.perf_counter()
    try:
        auc, final, count = play(player, table, budget_s)
    finally:
        player.close()
    row = dict(zip(KEY, cell.key, strict=True))
    return row | {
        "auc": f"{auc:.5f}",
        "final": f"{final:.5f}",
        "evaluations": str(count),
        "own_seconds": f"{time.perf_counter() - began:.3f}",
    }


def play(player: Player, table: Table, budget_s: float) -> tuple[float, float, int]:
    """Mean regret over the budget, regret at its end, evaluations begun.

    The regret of a moment is that of a whole training of the configuration whose value is best so
    far, whatever it was trained for. A training that goes on costs what is new in it.
    """
    now, best, regret, area, count = 0.0, -math.inf, 1.0, 0.0, 0
    spent: dict[int, float] = {}
    while now < budget_s:
        asked = player.ask(now)
        if asked is None:
            break
        if asked.fidelity is None or table.partly is None:
            value, until = table.look_up(asked.config)
        else:
            value, until = table.partly(asked.config, asked.fidelity)
        cost = max(until - spent.get(asked.key, 0.0), 0.0)
        count += asked.key not in spent
        limit_s = math.inf if asked.limit_s is None else asked.limit_s
        allowed = min(cost, limit_s, budget_s - now)
        area += regret * allowed
        now += allowed
        in_time = allowed >= cost
        spent[asked.key] = spent.get(asked.key, 0.0) + allowed
        if in_time and value > best:
            best, regret = value, table.regret(table.look_up(asked.config)[0])
        player.tell(asked, value if in_time else None, now, allowed)
    return (area + regret * max(budget_s - now, 0.0)) / budget_s, regret, count
