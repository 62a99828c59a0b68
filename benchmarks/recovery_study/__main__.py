"""``python -m benchmarks.recovery_study DATA [--cells TEXT ...]``: simulated, cell by cell.

DATA holds ``v100_profiles.json`` and ``traces/``. Rows that the result file has already are not
computed again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.recovery_study.chart import chart
from benchmarks.recovery_study.sheet import Sheet
from benchmarks.recovery_study.study import COLUMNS, KEY, cells, study
from benchmarks.recovery_study.table import page, tables

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main() -> None:
    """Run the cells, then print the table and draw the chart of all that is in the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery_study", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("data_folder", type=Path, help="has v100_profiles.json and traces/")
    parser.add_argument(
        "--cells", nargs="*", default=[], metavar="TEXT", help="only cells with all of these"
    )
    parser.add_argument("--result", type=Path, default=RESULTS / "recovery_study.csv")
    parser.add_argument("--layouts", type=Path, default=RESULTS / "recovery_layouts.csv")
    parser.add_argument("--list", action="store_true", help="name the cells and stop")
    arguments = parser.parse_args()
    try:
        found = [
            cell
            for cell in cells(arguments.data_folder)
            if all(text in " ".join(cell.key) for text in arguments.cells)
        ]
        sheet = Sheet(arguments.result, COLUMNS, KEY)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{arguments.data_folder} cannot be used: {error!r}")
    if arguments.list:
        for cell in found:
            print(" ".join(cell.key), "(done)" if cell.key in sheet else "")
        return
    for line in study(arguments.data_folder, found, sheet, arguments.layouts):
        print(line, flush=True)
    print()
    print(tables(sheet.rows), end="")
    image = arguments.result.with_suffix(".svg")
    image.write_text(chart(sheet.rows))
    text = arguments.result.with_suffix(".md")
    text.write_text(page(sheet.rows))
    print(f"\neverything above is simulated; it stands in {text}, drawn in {image}")


if __name__ == "__main__":
    main()
