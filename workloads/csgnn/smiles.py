"""Molecules as graphs, from SMILES: atoms and bonds as they are written (Weininger, 1988).

Nothing is inferred: aromatic atoms are those in lower case, hydrogens inside brackets count as a
part of their atom, and chirality is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BONDS = {"-": 0, "=": 1, "#": 2, ":": 3, "$": 4, "/": 0, "\\": 0}
"""Types of bonds; one between two aromatic atoms is 3 where nothing is written."""
SINGLE, AROMATIC = 0, 3

_TOKEN = re.compile(
    r"(?P<atom>Cl|Br|[BCNOPSFI]|[bcnops])"
    r"|\[(?P<isotope>\d*)(?P<symbol>[A-Z][a-z]?|[a-z][a-z]?|\*)"
    r"(?P<chirality>@{0,2}(?:[A-Z]{2}\d+)?)"
    r"(?P<hydrogens>H\d*)?(?P<charge>\+\d+|-\d+|\++|-+)?(?::\d+)?\]"
    r"|(?P<bond>[-=#:$/\\])"
    r"|(?P<ring>%\d\d|\d)"
    r"|(?P<branch>[()])"
    r"|(?P<dot>\.)"
)


@dataclass(frozen=True)
class Molecule:
    """A molecule as a simple graph.

    Attributes:
        atoms: what each vertex is: symbol (lower case if aromatic), hydrogens of a bracket, charge.
        bonds: (vertex, vertex, type), each once.
    """

    atoms: tuple[str, ...]
    bonds: tuple[tuple[int, int, int], ...]


class _Reader:
    """Reads one line from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.atoms: list[str] = []
        self.aromatic: list[bool] = []
        self.bonds: dict[tuple[int, int], int] = {}
        self.last: int | None = None
        self.written: str | None = None  # the bond before the next atom
        self.branches: list[int] = []
        self.rings: dict[int, tuple[int, str | None]] = {}

    def fail(self, what: str, at: int) -> ValueError:
        """The error, with the place."""
        return ValueError(f"the SMILES {self.text!r} is broken at character {at + 1}: {what}")

    def read(self) -> Molecule:
        """The molecule; ``ValueError`` if it is broken."""
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None:
                raise self.fail(f"{self.text[at]!r} is not understood here", at)
            self.take(found, at)
            at = found.end()
        if not self.atoms:
            raise self.fail("there is no atom", 0)
        if self.rings:
            raise self.fail(f"ring {min(self.rings)} is not closed", len(self.text) - 1)
        if self.branches:
            raise self.fail("a branch is not closed", len(self.text) - 1)
        if self.written is not None:
            raise self.fail("a bond leads nowhere", len(self.text) - 1)
        bonds = tuple((u, v, kind) for (u, v), kind in self.bonds.items())
        return Molecule(tuple(self.atoms), bonds)

    def take(self, found: re.Match[str], at: int) -> None:
        """One token."""
        match found.lastgroup:
            case "bond" if self.written is None and self.last is not None:
                self.written = found["bond"]
            case "ring":
                self.ring(int(found["ring"].removeprefix("%")), at)
            case "branch":
                self.branch(found["branch"], at)
            case "dot":
                self.last, self.written = None, None
            case "bond":
                raise self.fail("a bond must stand between two atoms", at)
            case _:
                self.atom(found, at)

    def atom(self, found: re.Match[str], at: int) -> None:
        """A vertex, joined to the one before it."""
        symbol = found["atom"] or found["symbol"]
        name = symbol + (found["hydrogens"] or "") + (found["charge"] or "")
        self.atoms.append(name)
        self.aromatic.append(symbol[0].islower())
        new = len(self.atoms) - 1
        if self.last is not None:
            self.join(self.last, new, self.written, at)
        self.last, self.written = new, None

    def branch(self, sign: str, at: int) -> None:
        """A branch begins or ends."""
        if sign == "(" and self.last is not None:
            self.branches.append(self.last)
        elif sign == ")" and self.branches and self.written is None:
            self.last = self.branches.pop()
        else:
            raise self.fail(f"{sign!r} has no partner or no atom before it", at)

    def ring(self, number: int, at: int) -> None:
        """A ring bond begins or ends."""
        if self.last is None:
            raise self.fail("a ring bond has no atom before it", at)
        if number not in self.rings:
            self.rings[number] = self.last, self.written
        else:
            other, written = self.rings.pop(number)
            self.join(other, self.last, self.written or written, at)
        self.written = None

    def join(self, u: int, v: int, written: str | None, at: int) -> None:
        """An edge."""
        pair = (min(u, v), max(u, v))
        if u == v:
            raise self.fail("an atom is joined to itself", at)
        if pair in self.bonds:
            raise self.fail(f"atoms {pair[0] + 1} and {pair[1] + 1} are joined twice", at)
        both = self.aromatic[u] and self.aromatic[v]
        self.bonds[pair] = BONDS[written] if written else AROMATIC if both else SINGLE


def read_smiles(text: str) -> Molecule:
    """The molecule that ``text`` describes.

    Raises:
        ValueError: it is broken; the message has the character and the reason.
    """
    return _Reader(text.strip()).read()
