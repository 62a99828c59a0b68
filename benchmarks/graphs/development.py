"""Pairs on which the setting for BREC is chosen: none of them is in BREC."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.graphs.brec import Pair
from benchmarks.graphs.cfi import BASES, cfi_pair
from benchmarks.graphs.families import read_exp, read_family
from ithaca.workloads.csgnn.generated import CSL_SKIPS, CSL_VERTICES, circulant
from ithaca.workloads.csgnn.graphs import Graphs

FAMILIES = ("sr251256", "sr291467", "sr401224")


def development_pairs(folder: Path) -> list[Pair]:
    """Neighbours in strongly regular families, pairs of EXP, circulants with near skips, and pairs
    over small bases by Cai, Fuerer and Immerman, of which colour refinement misses some too."""
    graphs: list[tuple[str, Graphs]] = []
    for name in FAMILIES:
        family = read_family(folder, name)
        graphs += [(name, family.take(torch.tensor([i, i + 1]))) for i in range(0, 8, 2)]
    exp = read_exp(folder)
    graphs += [("EXP", exp.take(torch.tensor([i, i + 1]))) for i in range(0, 1200, 200)]
    rings = [circulant(CSL_VERTICES, skip) for skip in CSL_SKIPS]
    graphs += [("CSL", Graphs.of(rings[i : i + 2])) for i in range(len(rings) - 1)]
    graphs += [("CFI", cfi_pair(name)) for name in BASES]
    return [Pair(10_000 + number, name, both) for number, (name, both) in enumerate(graphs)]
