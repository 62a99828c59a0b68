"""Molecules as graphs, with types of atoms in ascending order of their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.smiles import Molecule


def ranks(values: Sequence[int] | Sequence[str]) -> Tensor:
    """Each value as its place among the distinct ones, int64 [n]."""
    distinct: list[int | str] = sorted(set(values), key=lambda value: (str(type(value)), value))
    rank = {value: place for place, value in enumerate(distinct)}
    return torch.tensor([rank[value] for value in values])


def molecules_of(molecules: Sequence[Molecule]) -> tuple[Graphs, Tensor]:
    """Their graphs with types of bonds, and the types of atoms, int64 [atoms]."""
    graphs = Graphs.of(
        [(len(m.atoms), [(u, v) for u, v, _ in m.bonds]) for m in molecules],
        [kind for m in molecules for _, _, kind in m.bonds],
    )
    return graphs, ranks([atom for m in molecules for atom in m.atoms])
