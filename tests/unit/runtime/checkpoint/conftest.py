"""A small job whose checkpoints the tests write, break and read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from ithaca.runtime.checkpoint.damage import CheckpointFailedError
from ithaca.runtime.checkpoint.layer_file import LayerFile
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.store import CheckpointStore, Found
from ithaca.runtime.checkpoint.writer import write_layer
from ithaca.runtime.ledger import Ledger

LAYERS = ("embed", "block0", "head")

States: TypeAlias = Callable[[int], dict[str, dict[str, Tensor]]]
Manifests: TypeAlias = Callable[[int, tuple[LayerFile, ...]], Manifest]
Save: TypeAlias = Callable[[CheckpointStore, int], Found]


def _state(step: int, layer: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + layer)
    weight = torch.randn(5, 3, generator=generator)
    return {
        "param.weight": weight,
        "param.half": torch.randn(7, generator=generator).to(torch.bfloat16),
        "exp_avg.weight": weight * 0.1,
        "exp_avg_sq.weight": weight * weight,
        "param.empty": torch.zeros(0, 4),
        "step": torch.tensor(step),
    }


@pytest.fixture(scope="session")
def states() -> States:
    """The state of every layer after a number of steps."""
    return lambda step: {name: _state(step, index) for index, name in enumerate(LAYERS)}


@pytest.fixture(scope="session")
def manifest() -> Manifests:
    """A manifest of a step and its files."""

    def make(step: int, layers: tuple[LayerFile, ...]) -> Manifest:
        return Manifest(
            job="small",
            step=step,
            seed=7,
            created="2025-01-02T03:04:05Z",
            config={"seed": 7, "steps": 100, "layout": {"micro_batches": 4}},
            fingerprint={"train": "ab" * 32},
            identity={"torch": "2.13.0", "device": "cpu", "threads": "1"},
            plan="plan generation=0 schedule=1f1b\npipeline 0-3 0:3@w0\n",
            generation=0,
            layers=layers,
            state_hash="0123456789abcdef" * 2,
            ledger=Ledger(step, (), 4 * step),
        )

    return make


@pytest.fixture(scope="session")
def save(states: States, manifest: Manifests) -> Save:
    """Saves a step as a controller and its workers do, giving up when the disk fails."""

    def run(store: CheckpointStore, step: int) -> Found:
        folder = store.begin(step)
        try:
            files = tuple(
                write_layer(folder, name, state, step, store.disk)
                for name, state in states(step).items()
            )
        except OSError as error:
            store.abandon(step)
            raise CheckpointFailedError(step, str(error)) from error
        return store.commit(manifest(step, files))

    return run


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """An empty store that keeps two checkpoints."""
    return CheckpointStore(tmp_path, keep=2)
