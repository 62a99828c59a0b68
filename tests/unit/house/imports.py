"""Which modules a file imports, wherever in the file it does so."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from tests.unit.house.source import Source


@dataclass(frozen=True)
class Import:
    """``module`` is imported at ``place`` (path and line); a ``level`` above 0 is relative.

    ``typing``: it stands under TYPE_CHECKING, so no run imports it.
    """

    place: str
    module: str
    level: int = 0
    typing: bool = False


@cache
def imports(source: Source, known: frozenset[str] = frozenset()) -> tuple[Import, ...]:
    """Every import of ``source``, also in functions and under TYPE_CHECKING.

    ``from a import b`` counts as ``a.b`` when that is in ``known``, the names of all modules.
    """
    typing = {
        part
        for node in ast.walk(source.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in ast.walk(node)
    }
    found: list[Import] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names, level = {alias.name for alias in node.names}, 0
        elif isinstance(node, ast.ImportFrom):
            base, level = node.module or "", node.level
            full = {f"{base}.{alias.name}" for alias in node.names}
            names = {name if name in known else base for name in full}
        else:
            continue
        found += [
            Import(source.at(node, ""), name, level, node in typing) for name in sorted(names)
        ]
    return tuple(found)
