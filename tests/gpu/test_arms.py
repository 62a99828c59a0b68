"""Every arm of the benchmark on a GPU: the bits of no memory saving, and what its table says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ithaca.swap.bench.arms import FIXED_ARMS, GPU_ARMS, Limits
from ithaca.swap.bench.cells import Cell, fill, known
from ithaca.swap.bench.models import SMALL
from ithaca.swap.bench.rival import Rival, Setting

# Torch's save_on_cpu brings everything back contiguous, whatever its strides were: kernels of a GPU
# add in another order then. On three of the four models its bits are others; nobody promises them.
OTHER_BITS = frozenset({"save_on_cpu"})
OTHERS = [arm for arm in GPU_ARMS if arm not in {"nothing", *OTHER_BITS}]


def trained(model: str, arm: str, folder: Path, budget: int = 1 << 40) -> tuple[str, int]:
    """Hash of the parameters after four steps, and the peak of the last; in its own process."""
    with Rival(Setting(model, arm, Limits(budget, folder), "cuda")) as rival:
        steps = [rival.step() for _ in range(4)]
        assert not steps[-1].refused, steps[-1].refused
        return rival.digest(), steps[-1].peak_bytes


@pytest.mark.parametrize("arm", OTHERS)
@pytest.mark.parametrize("model", [model.name for model in SMALL])
def test_the_bits_are_those_without_memory_saving(model: str, arm: str, tmp_path: Path) -> None:
    wanted, peak = trained(model, "nothing", tmp_path)
    budget = peak if arm not in FIXED_ARMS else 1 << 40
    assert trained(model, arm, tmp_path, budget)[0] == wanted


def test_a_cell_has_a_row_for_every_arm(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    (rows,) = fill(path, [Cell("small", 60, device="cuda")], GPU_ARMS, tmp_path, rounds=2)
    assert [row["arm"] for row in rows] == list(GPU_ARMS)
    assert known(path)
    for row in rows:
        assert row["refused"] or row["same_bits"] == "True" or row["arm"] in OTHER_BITS, row
        if row["arm"] not in FIXED_ARMS and row["arm"] != "published" and not row["refused"]:
            assert row["fits"] == "True", row


def test_the_command_measures_the_link(tmp_path: Path) -> None:
    call = "import runpy, sys; sys.path.insert(0, 'src'); sys.argv = sys.argv[1:]; "
    call += "runpy.run_module('ithaca.swap.bench', run_name='__main__', alter_sys=True)"
    words = ["ithaca.swap.bench", "--device", "cuda", "--link", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", call, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "both beside products" in done.stdout
