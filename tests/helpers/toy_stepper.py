"""A stepper without autograd: integers go forward and back, but weights and moments are real.

What a layer makes of its input depends on its weights, so a state that is wrong anywhere shows in
the losses of the next step, and in the hash of everything behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ithaca.planner.program import Cargo, Compute, Op, Program, Step
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.machine import Wires
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.engine.stepper import Stepper
from tests.helpers.toy_machine import CPU, PRIME, SHAPES, ToyMachine, count_of, mix, noise

State = dict[str, Tensor]


def initial(layer: int) -> State:
    """The weights and moments that a layer begins with."""
    weights = {f"w{i}": 0.5 * direction for i, direction in enumerate(noise(layer))}
    moments = {f"m{i}": torch.zeros(shape) for i, shape in enumerate(SHAPES)}
    return weights | moments


def salt(state: Mapping[str, Tensor]) -> int:
    """A number that changes with the weights."""
    return hash_tensor(state["w0"]) % PRIME


class StepMachine(ToyMachine):
    """A toy step whose values depend on the weights, and which changes them."""

    def __init__(
        self,
        program: Program,
        step: int,
        wires: Wires,
        states: dict[int, State],
        layers: Sequence[int],
    ) -> None:
        super().__init__(program, step, wires, layers)
        self._states = states
        self._salts: dict[int, int] = {}

    def _forward(self, action: Compute) -> None:
        first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
        value = self._read(Cargo.ACTIVATION, first, micro_batch) if first else micro_batch
        for layer in action.layers:
            self.ledger[Op.F, layer, micro_batch] += 1
            self._activations[layer, micro_batch] = value
            value = mix(value + self._salt(layer), layer, micro_batch)
        if last < self._num_layers:
            self._write(Cargo.ACTIVATION, last, micro_batch, value)
        else:
            self.ballot.losses[micro_batch] = (float(value), count_of(micro_batch), 1)

    def _salt(self, layer: int) -> int:
        if layer not in self._salts:
            self._salts[layer] = salt(self._states[layer])
        return self._salts[layer]

    def step(self, action: Step, tally: Tally) -> None:
        """Momentum, with a rate that depends on the global norm."""
        rate = 1e-3 / (1.0 + tally.norm)
        for layer in action.layers:
            state = self._states[layer]
            for i, gradient in enumerate(self.gradients(layer)):
                state[f"m{i}"].mul_(0.5).add_(gradient)
                state[f"w{i}"].sub_(state[f"m{i}"], alpha=rate)
        super().step(action, tally)


class ToyStepper(Stepper):
    """One worker of a toy job.

    Attributes:
        states: of the layers that are here.
        ledger: how often this worker computed what, over all its machines, by step.
    """

    def __init__(self, layers: Iterable[int]) -> None:
        super().__init__(exact=True, fixed_shapes=True, device=CPU)
        self.states = {layer: initial(layer) for layer in layers}
        self.ledger: dict[int, Counter[tuple[Op, int, int]]] = {}
        self._arriving: dict[int, State] = {}

    def held(self) -> frozenset[int]:
        return frozenset(self.states)

    def state(self, layer: int) -> Mapping[str, Tensor]:
        return self.states[layer]

    def expect(self, layer: int) -> Mapping[str, Tensor]:
        self._arriving[layer] = {k: torch.full_like(v, 7.0) for k, v in initial(layer).items()}
        return self._arriving[layer]

    def accept(self, layer: int) -> None:
        self.states[layer] = self._arriving.pop(layer)

    def drop(self, layers: Iterable[int]) -> None:
        for layer in layers:
            del self.states[layer]

    def machine(
        self, program: Program, wires: Wires, layers: Iterable[int], training: bool
    ) -> StepMachine:
        made = StepMachine(program, self.step, wires, self.states, sorted(layers))
        made.ledger = self.ledger.setdefault(self.step, Counter())
        return made

    def restore(self, step: int, states: Mapping[int, Mapping[str, Tensor]]) -> None:
        self.under_way, self.corrupt, self.tally, self.step = None, "", None, step
        self.states = {i: {k: v.clone() for k, v in state.items()} for i, state in states.items()}

    def hashes(self) -> dict[int, str]:
        """Of the whole state of every layer that is here."""
        return {
            layer: combine({key: hash_tensor(tensor) for key, tensor in state.items()})
            for layer, state in self.states.items()
        }
