"""Which modules a file imports, wherever in the file it does so."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from tests.unit.house.source import Source


@dataclass(frozen=True)
class Import:
    """``module`` is imported at ``place`` (path and line); a ``level`` above 0 is relative."""

    place: str
    module: str
    level: int = 0


@cache
def imports(source: Source, known: frozenset[str] = frozenset()) -> tuple[Import, ...]:
    """Every import of ``source``, also in functions and under TYPE_CHECKING.

    ``from a import b`` counts as ``a.b`` when that is in ``known``, the names of all modules.
    """
    found: list[Import] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            found += [Import(source.at(node, ""), alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = {
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                for alias in node.names
            }
            found += [Import(source.at(node, ""), name, node.level) for name in sorted(names)]
    return tuple(found)
