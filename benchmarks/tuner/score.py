"""From rows to average ranks and tests; sets, by the means over their seeds, are the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from scipy import stats

Row = Mapping[str, str]


@dataclass(frozen=True)
class Standing:
    """A player at one budget.

    Attributes:
        player: its name.
        auc: mean anytime regret.
        rank: average over sets, 1 is best.
        wins: part of the sets on which its regret is at least 10 % below the reference's.
        p: of a Wilcoxon test against the reference, Holm-corrected; 1 for itself.
    """

    player: str
    auc: float
    rank: float
    wins: float
    p: float


def matrix(rows: Sequence[Row], budget: str) -> tuple[list[str], list[str], np.ndarray]:
    """Sets, players, and mean anytime regret; only sets that every player was measured on."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["budget"] == budget:
            cells.setdefault((row["table"], row["player"]), []).append(float(row["auc"]))
    players = sorted({player for _, player in cells})
    tables = sorted(
        {table for table, _ in cells if all((table, player) in cells for player in players)}
    )
    values = [[mean(cells[table, player]) for player in players] for table in tables]
    return tables, players, np.array(values).reshape(len(tables), len(players))


def standings(rows: Sequence[Row], budget: str, reference: str) -> tuple[float, list[Standing]]:
    """p of Friedman's test, and all players, the best average rank first."""
    tables, players, values = matrix(rows, budget)
    if len(tables) < 2 or len(players) < 2:
        return 1.0, []
    ranks = np.apply_along_axis(stats.rankdata, 1, values).mean(axis=0)
    friedman = stats.friedmanchisquare(*values.T).pvalue if len(players) > 2 else 1.0
    at = players.index(reference) if reference in players else 0
    raw = {}
    for index, player in enumerate(players):
        differs = values[:, index] - values[:, at]
        same = index == at or not np.any(differs)
        raw[player] = 1.0 if same else float(stats.wilcoxon(differs).pvalue)
    corrected = holm({p: v for p, v in raw.items() if p != players[at]}) | {players[at]: 1.0}
    found = [
        Standing(
            player,
            float(values[:, i].mean()),
            float(ranks[i]),
            float(np.mean(values[:, i] <= 0.9 * values[:, at])),
            corrected[player],
        )
        for i, player in enumerate(players)
    ]
    return float(friedman), sorted(found, key=lambda s: s.rank)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction."""
    found, worst = {}, 0.0
    for index, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        worst = max(worst, min(value * (len(p) - index), 1.0))
        found[name] = worst
    return found


def table(rows: Sequence[Row], reference: str) -> str:
    """The standings at every budget as text."""
    out = []
    for budget in sorted({row["budget"] for row in rows}, key=int):
        tables, players, _ = matrix(rows, budget)
        friedman, found = standings(rows, budget, reference)
        seeds = len({row["seed"] for row in rows if row["budget"] == budget})
        head = f"{budget} x mean cost: {len(tables)} sets, {seeds} seeds"
        out.append(f"{head}, {len(players)} players; Friedman p {friedman:.2g}")
        out += [
            f"  {s.player:16} rank {s.rank:5.2f}  regret {s.auc:.3f}  "
            f"10 % better than {reference} on {s.wins:4.0%} of sets, p {s.p:.2g}"
            for s in found
        ]
    return "\n".join(out)
