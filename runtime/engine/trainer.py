"""A worker's engine: builds its layers and runs one step after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from ithaca.planner.program import Program
from ithaca.runtime.engine.held import HeldLayer, Model
from ithaca.runtime.engine.layer_machine import TURNS, Holdings, LayerMachine
from ithaca.runtime.engine.machine import Wires
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.engine.stepper import Stepper
from ithaca.runtime.workload import Workload


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine needs to know of a job.

    Attributes:
        seed: of weights and dropout.
        exact: sum gradients in the fixed tree.
        dtype: what layers compute in.
        skip_not_finite: leave out the update of a step with a NaN.
        optimizer: AdamW and its schedule.
        sealed: check that states and gradients at rest do not change.
        replay_every: steps between sampled replays; 0: never.
    """

    seed: int
    exact: bool
    dtype: torch.dtype
    skip_not_finite: bool
    optimizer: OptimizerSettings
    sealed: bool = False
    replay_every: int = 0


class Trainer(Stepper):
    """The layers, optimizer and step count of one worker.

    Args:
        workload: gives layers, batches and the loss.
        settings: of the engine.
        layers: indices of those that this worker holds from the start.
        device: where they are.
    """

    def __init__(
        self,
        workload: Workload,
        settings: EngineSettings,
        layers: Iterable[int],
        device: torch.device | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        super().__init__(
            settings.exact,
            workload.fixed_shapes,
            device,
            sealed=settings.sealed,
            replay_every=settings.replay_every,
        )
        model = Model(tuple(workload.layers()), tuple(workload.ties()))
        randomness = Randomness(settings.seed, device)
        self.settings = settings
        self.holdings = Holdings(
            workload=workload,
            model=model,
            layers={},
            settings=settings.optimizer,
            skip_not_finite=settings.skip_not_finite,
            randomness=randomness,
            device=device,
            dtype=settings.dtype,
        )
        self._arriving: dict[int, HeldLayer] = {}
        for index in layers:
            self.holdings.layers[index] = self._build(index)

    def _build(self, index: int) -> HeldLayer:
        """The layer with its initial weights."""
        h, settings = self.holdings, self.settings
        return HeldLayer(index, h.model, h.randomness, h.dtype, h.device, settings.optimizer)

    def held(self) -> frozenset[int]:
        """Indices of the layers that are here."""
        return frozenset(self.holdings.layers)

    def state(self, layer: int) -> Mapping[str, Tensor]:
        """Weights, moments and step counts."""
        return self.holdings.layers[layer].state()

    def expect(self, layer: int) -> Mapping[str, Tensor]:
        """A layer apart, to be filled."""
        self._arriving[layer] = self._build(layer)
        return self._arriving[layer].state()

    def accept(self, layer: int) -> None:
        """Take the filled layer up."""
        held = self._arriving.pop(layer)
        held.publish()
        self.holdings.layers[layer] = held

    def drop(self, layers: Iterable[int]) -> None:
        """Free the layers, and their times."""
        gone = set(layers)
        for layer in gone:
            del self.holdings.layers[layer]
        for key in [key for key in self.holdings.meter if key[1] in gone]:
            del self.holdings.meter[key]

    def restore(self, step: int, states: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go back to the layers in ``states`` as they were after ``step`` steps."""
        self.under_way, self.corrupt, self.tally, self.step = None, "", None, step
        self.drop(self.held().difference(states))
        for layer, state in states.items():
            if layer not in self.holdings.layers:
                self.holdings.layers[layer] = self._build(layer)
            self.holdings.layers[layer].load(state)

    def parameters(self) -> list[Tensor]:
        """The weights of all layers that are here."""
        return [weight for held in self.holdings.layers.values() for weight in held.masters]

    def gradients_so_far(self) -> list[Tensor]:
        """All partial sums of the step under way."""
        machine = self.under_way
        if machine is None:
            return []
        return [
            gradient
            for partials in machine.partials.values()
            for gradients in partials.nodes().values()
            for gradient in gradients
        ]

    def machine(
        self, program: Program, wires: Wires, layers: Iterable[int], training: bool
    ) -> LayerMachine:
        """A machine with autograd."""
        return LayerMachine(program, self.step, wires, self.holdings, layers, training)

    def forget_times(self) -> None:
        """Leave the steps so far out of :meth:`times`: they were a warm-up."""
        self.holdings.meter.clear()

    def probe(self, turn: int | None) -> None:
        """In the next step one backward of some layers is done in its two parts too; None: none.

        ``turn``: a count of steps; so many steps as there are :data:`TURNS` probe every layer.
        """
        self.holdings.probing = None if turn is None else turn % TURNS

    def times(self) -> dict[str, dict[str, float]]:
        """Median seconds of each op on each held layer, by layer name and op.

        Of two the lower: the first time that a layer's backward is split is no measure.
        """
        found: dict[str, dict[str, float]] = {}
        for (op, layer), seconds in self.holdings.meter.items():
            found.setdefault(self.holdings.layers[layer].name, {})[op.value] = median_low(seconds)
        return found

    def hashes(self) -> Mapping[str, str]:
        """A hash of the state of every held layer, by name."""
        return {layer.name: layer.hash() for layer in self.holdings.layers.values()}
