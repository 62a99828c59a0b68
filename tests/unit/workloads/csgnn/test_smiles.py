"""Molecules from SMILES, and lines that are broken."""

from __future__ import annotations

import pytest

from ithaca.workloads.csgnn.smiles import read_smiles


@pytest.mark.parametrize(
    ("text", "atoms", "bonds"),
    [
        ("CCO", ["C", "C", "O"], [(0, 1, 0), (1, 2, 0)]),
        ("C=C#N", ["C", "C", "N"], [(0, 1, 1), (1, 2, 2)]),
        ("CC(=O)Cl", ["C", "C", "O", "Cl"], [(0, 1, 0), (1, 2, 1), (1, 3, 0)]),
        ("C1CC1", ["C"] * 3, [(0, 1, 0), (1, 2, 0), (0, 2, 0)]),
        ("C1CC=1", ["C"] * 3, [(0, 1, 0), (1, 2, 0), (0, 2, 1)]),
        (
            "c1ccncc1C",
            ["c", "c", "c", "n", "c", "c", "C"],
            [(0, 1, 3), (1, 2, 3), (2, 3, 3), (3, 4, 3), (4, 5, 3), (0, 5, 3), (5, 6, 0)],
        ),
        ("[NH4+].[Cl-]", ["NH4+", "Cl-"], []),
        ("C[C@@H](N)F", ["C", "CH", "N", "F"], [(0, 1, 0), (1, 2, 0), (1, 3, 0)]),
        ("C%12CC%12", ["C"] * 3, [(0, 1, 0), (1, 2, 0), (0, 2, 0)]),
        ("[13CH3]/C=C\\[nH]", ["CH3", "C", "C", "nH"], [(0, 1, 0), (1, 2, 1), (2, 3, 0)]),
    ],
)
def test_molecules_are_read(text: str, atoms: list[str], bonds: list[tuple[int, ...]]) -> None:
    molecule = read_smiles(text)
    assert list(molecule.atoms) == atoms
    assert sorted(molecule.bonds) == sorted(bonds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no atom"),
        ("CX", r"character 2: 'X' is not understood"),
        ("C1CC", "ring 1 is not closed"),
        ("C(C", "a branch is not closed"),
        ("C)C", "has no partner"),
        ("(C)", "has no partner or no atom before it"),
        ("C=", "a bond leads nowhere"),
        ("C==C", "a bond must stand between two atoms"),
        ("=C", "a bond must stand between two atoms"),
        ("1CC1", "no atom before it"),
        ("C11", "an atom is joined to itself"),
        ("C1C1", "atoms 1 and 2 are joined twice"),
        ("C[C", r"'\[' is not understood"),
    ],
)
def test_broken_lines_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_smiles(text)
