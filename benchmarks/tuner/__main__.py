"""``python -m benchmarks.tuner DATA``: tuners on tables, cell by cell.

DATA holds ``lcbench``. Runs in ``build/tuner/tables``, which ``python -m
benchmarks.tuner.environments`` makes with those of the opponents. Rows that the result file has
already are not computed again. Every look at the part ``test`` belongs into docs/log.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.recovery_study.sheet import Sheet
from benchmarks.tuner.players import PLAYERS
from benchmarks.tuner.score import table
from benchmarks.tuner.study import BUDGETS, COLUMNS, KEY, cells, run

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main() -> None:
    """Run the cells, then print the standings of all that is in the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuner", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("data", type=Path, help="folder that holds lcbench")
    parser.add_argument("--part", choices=["development", "test"], default="development")
    parser.add_argument("--task", choices=["hyperparameters", "selection", "live"], default="")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--players", nargs="+", default=list(PLAYERS))
    parser.add_argument("--sets", nargs="*", default=[], help="only sets with one of these texts")
    parser.add_argument("--reference", default="optuna tpe")
    parser.add_argument("--show", action="store_true", help="only print the standings")
    arguments = parser.parse_args()
    task = arguments.task or "hyperparameters"
    unknown = [player for player in arguments.players if player not in PLAYERS]
    if unknown:
        parser.error(f"there is no player {unknown}; there are: {', '.join(PLAYERS)}")
    sheet = Sheet(RESULTS / f"tuner_{task}.csv", COLUMNS, KEY)
    if not arguments.show:
        budgets = tuple(arguments.budgets)
        todo = cells(arguments.part, task, budgets, arguments.seeds, arguments.players)
        wanted = arguments.sets
        todo = [c for c in todo if not wanted or any(text in " ".join(c.key) for text in wanted)]
        for number, cell in enumerate(todo, 1):
            if cell.key not in sheet:
                sheet.add(run(cell, arguments.data))
            if number % 50 == 0:
                print(f"{number} of {len(todo)} cells", flush=True)
    rows = [row for row in sheet.rows if row["part"] == arguments.part]
    if arguments.players != list(PLAYERS):
        rows = [row for row in rows if row["player"] in arguments.players]
    print(table(rows, arguments.reference))


if __name__ == "__main__":
    main()
