"""The best layout for every number of cards, kept in a file: finding them takes minutes."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from benchmarks.recovery_study.sheet import Sheet
from ithaca.planner.plan import Plan

COLUMNS = ("model", "numerics", "cards", "plan")
BREAK = " / "
"""Between the lines of a plan."""


class Layouts(MutableMapping[int, Plan | None]):
    """Plans by number of cards, for one model and kind of numerics."""

    def __init__(self, path: Path, model: str, numerics: str) -> None:
        self._sheet = Sheet(path, COLUMNS, COLUMNS[:3])
        self._job = (model, numerics)
        self._plans: dict[int, Plan | None] = {
            int(row["cards"]): _read(row["plan"])
            for row in self._sheet.rows
            if (row["model"], row["numerics"]) == self._job
        }

    def __getitem__(self, cards: int) -> Plan | None:
        return self._plans[cards]

    def __setitem__(self, cards: int, plan: Plan | None) -> None:
        text = "" if plan is None else str(plan).strip().replace("\n", BREAK)
        model, numerics = self._job
        self._sheet.add({"model": model, "numerics": numerics, "cards": str(cards), "plan": text})
        self._plans[cards] = plan

    def __delitem__(self, cards: int) -> None:
        raise TypeError("layouts are found, not forgotten; remove the file to find them anew")

    def __iter__(self) -> Iterator[int]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)


def _read(text: str) -> Plan | None:
    return Plan.parse(text.replace(BREAK, "\n")) if text else None
