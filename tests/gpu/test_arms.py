"""Every arm of the benchmark on a GPU: the bits of no memory saving, and what the session says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ithaca.swap.bench.arms import Limits
from ithaca.swap.bench.models import TINY
from ithaca.swap.bench.rival import Setting, Trainer
from ithaca.swap.errors import Unsupported

OTHERS = ("full checkpointing", "selective checkpointing", "save_on_cpu", "offload")


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    """This suite is for machines with a GPU; elsewhere it fails, and says why."""
    assert torch.cuda.is_available(), "torch finds no GPU: this suite is run by make gpu on one"


def trained(model: str, arm: str, folder: Path, budget: int = 1 << 40) -> tuple[str, int]:
    """Hash of the parameters after four steps, and the peak of the last."""
    trainer = Trainer(Setting(model, arm, Limits(budget, folder), "cuda"))
    try:
        taken = [trainer.step() for _ in range(4)][-1]
        return trainer.digest(), taken.peak_bytes
    finally:
        trainer.close()


@pytest.fixture(autouse=True)
def _same_kernels() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.mark.parametrize("model", [model.name for model in TINY])
@pytest.mark.parametrize("arm", OTHERS)
def test_the_bits_are_those_without_memory_saving(model: str, arm: str, tmp_path: Path) -> None:
    assert trained(model, arm, tmp_path)[0] == trained(model, "nothing", tmp_path)[0]


def test_a_session_on_a_gpu_is_refused_by_name(tmp_path: Path) -> None:
    """Until the executor moves memory of a GPU, it must not pretend to."""
    with pytest.raises(Unsupported, match="counts the memory of the CPU"):
        trained("tiny", "ours", tmp_path)
