"""A CSV file that is written row by row and survives being killed at any moment."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str]


class Sheet:
    """Rows with a key; each is on the disk before ``add`` returns.

    A last line that was cut off is dropped when the file is opened again.

    Raises:
        ValueError: the file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self._path, self._columns, self._key = path, tuple(columns), tuple(key)
        self._rows: dict[tuple[str, ...], Row] = {}
        if path.exists() and path.stat().st_size:
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._line(self._columns))

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self._rows

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order in which they were added."""
        return tuple(self._rows.values())

    def add(self, row: Row) -> None:
        """Write ``row`` behind the others."""
        line = self._line([row[column] for column in self._columns])
        with self._path.open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._rows[self._keyed(row)] = row

    def _read(self) -> None:
        text = self._path.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self._path.write_text(whole)
        header, *lines = csv.reader(io.StringIO(whole)) if whole else [()]
        if tuple(header) != self._columns:
            raise ValueError(
                f"{self._path} has columns {','.join(header)}, not {','.join(self._columns)}; "
                "move it away or name another file"
            )
        for line in lines:
            row = dict(zip(self._columns, line, strict=True))
            self._rows[self._keyed(row)] = row

    def _keyed(self, row: Row) -> tuple[str, ...]:
        return tuple(row[column] for column in self._key)

    def _line(self, values: Sequence[str]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(values)
        return out.getvalue()
