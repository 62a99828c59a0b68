"""Carries out a Program's actions on real layers with autograd."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ithaca.planner.program import Cargo, Compute, Op, Program, Step
from ithaca.planner.span import Span
from ithaca.recovery.standing import Place
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.autograd import (
    Trace,
    backward,
    backward_input,
    backward_weight,
    cut_value,
    leaves,
    try_split,
)
from ithaca.runtime.engine.ballot import Ballot
from ithaca.runtime.engine.held import HeldLayer, Model
from ithaca.runtime.engine.machine import Gradients, StepMachine, Wires, seal
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.workload import (
    Batch,
    BatchId,
    Split,
    Value,
    WithLoss,
    Workload,
    like,
    tensors,
)

Meter = dict[tuple[Op, int], deque[float]]
"""Seconds of the latest F, B, I, W and STEP of each layer."""

_METERED = 64
TURNS = 4
"""Steps in which every layer is probed once."""


class NotFinite(RuntimeError):
    """A loss or gradient is NaN or infinite, and the job says stop."""


@dataclass(slots=True)
class Holdings:
    """What a worker keeps from step to step.

    Attributes:
        workload: gives batches and the loss.
        model: the layers' descriptions.
        layers: those that this worker holds, by index.
        settings: of the optimizer.
        skip_not_finite: leave out the update of a step that is not finite, instead of stopping.
        randomness: seeds each forward.
        device: where the layers are.
        dtype: what the layers compute in.
        splits: layers whose split backward was compared with the fused one: same bits or not.
        computed: told the gradients of every layer and micro-batch; a drill may damage them.
        meter: times of single layers.
        probing: one of :data:`TURNS`, or None: layers whose turn it is do their first backward
            of a step in two parts too, to learn whether it may be split and what each part takes.
        guard: what the forward of a micro-batch in training runs in; it may take what autograd
            saves into its care.
    """

    workload: Workload
    model: Model
    layers: dict[int, HeldLayer]
    settings: OptimizerSettings
    skip_not_finite: bool
    randomness: Randomness
    device: torch.device
    dtype: torch.dtype
    splits: dict[int, bool] = field(default_factory=dict)
    computed: Callable[[Sequence[Tensor]], None] = lambda _: None
    meter: Meter = field(default_factory=dict)
    probing: int | None = None
    guard: Callable[[], AbstractContextManager[None]] = nullcontext


class LayerMachine(StepMachine):
    """One worker's step on the layers that it holds."""

    def __init__(
        self,
        program: Program,
        step: int,
        wires: Wires,
        holdings: Holdings,
        layers: Iterable[int],
        training: bool = True,
    ) -> None:
        super().__init__(program, step, wires, sorted(layers), training)
        self._holdings = holdings
        self._num_layers = program.num_layers
        self._unprobed = _probed_in(holdings, self.partials)
        splits = any(isinstance(a, Compute) and a.op is Op.I for a in program)
        self._splits = splits or bool(self._unprobed)
        self._traces: dict[tuple[int, int], Trace] = {}
        self._batches: dict[int, Batch] = {}
        self._prints: dict[tuple[int, int], str] = {}

    def compute(self, action: Compute) -> None:
        """F, B, I or W of a span of layers."""
        match action.op:
            case Op.F:
                self._forward(action)
            case Op.W:
                self._weights(action)
            case _:
                self._backward(action)

    def step(self, action: Step, tally: Tally) -> None:
        """AdamW on every layer of the action, or the job's answer to a NaN.

        Raises:
            NotFinite: the step is not finite and the job says stop; nothing was changed.
        """
        holdings = self._holdings
        if not tally.finite:
            if holdings.skip_not_finite:
                return
            raise NotFinite(f"step {self.step_number}: {tally.culprit}; no weight was changed")
        rate = holdings.settings.rate(self.step_number)
        divisor = holdings.settings.divisor(tally.count, tally.norm)
        for layer in action.layers:
            began = time.perf_counter()
            holdings.layers[layer].step(self.gradients(layer), rate, divisor)
            self._note(Op.STEP, layer, began)

    def begun(self) -> tuple[frozenset[Place], frozenset[Place]]:
        """The traces, without and with what W starts from."""
        owed = {place for place, trace in self._traces.items() if trace.owes_weights}
        return frozenset(self._traces.keys() - owed), frozenset(owed)

    def templates(self, layer: int) -> Sequence[Tensor]:
        """The fp32 weights."""
        return self._holdings.layers[layer].masters

    def squares(self, layer: int, gradients: Gradients) -> float:
        """Sum of squares without repeated tied weights."""
        return self._holdings.layers[layer].squares(gradients)

    def shared(self, lower: int, upper: int) -> list[tuple[int, int]]:
        """Positions of tied parameters, found by name on the ends that are held here."""
        layers = self._holdings.layers

        def position(layer: int, name: str) -> int:
            return layers[layer].names.index(name) if layer in layers else -1

        pairs = self._holdings.model.tied(lower, upper)
        return [(position(lower, low), position(upper, high)) for low, high in pairs]

    def batch(self, micro_batch: int) -> Batch:
        """The micro-batch, computed here from its id."""
        if micro_batch not in self._batches:
            split = Split.TRAIN if self.training else Split.VALIDATION
            which = BatchId(self.step_number, micro_batch, split)
            self._batches[micro_batch] = self._holdings.workload.batch(which)
        return self._batches[micro_batch]

    def _forward(self, action: Compute) -> None:
        first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
        if first == 0:
            inputs = self.batch(micro_batch).inputs
            value = like(inputs, [self._to_device(t) for t in tensors(inputs)])
        else:
            value = self.values[Cargo.ACTIVATION, first, micro_batch]
        with self._holdings.guard() if self.training else nullcontext():
            for layer in action.layers:
                began = time.perf_counter()
                with torch.set_grad_enabled(self.training):
                    value = self._forward_layer(layer, micro_batch, value)
                self._note(Op.F, layer, began)
        if last < self._num_layers:
            self.values[Cargo.ACTIVATION, last, micro_batch] = value

    def _to_device(self, tensor: Tensor) -> Tensor:
        dtype = self._holdings.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self._holdings.device, dtype)

    def _forward_layer(self, layer: int, micro_batch: int, value: Value) -> Value:
        held = self._holdings.layers[layer]
        self._holdings.randomness.forward(self.step_number, micro_batch, layer)
        held.module.train(self.training)
        inputs = leaves(value) if self.training and layer > 0 else value
        if held.needs_batch:
            out = held.module(inputs, self.batch(micro_batch))
        else:
            out = held.module(inputs)
        own = None
        if isinstance(out, WithLoss):
            out, own = out
        if layer == self._num_layers - 1:
            batch = self.batch(micro_batch)
            roots = [self._holdings.workload.loss(out, batch)]
            brought = (roots[0].item(), batch.count, len(batch.samples))
            self.ballot.losses[micro_batch] = brought
        else:
            roots = [tensor for tensor in tensors(out) if tensor.is_floating_point()]
        trace = Trace(
            tensors(inputs),
            [self._splittable(root) for root in roots],
            single=isinstance(inputs, Tensor),
        )
        if own is not None:
            count = self.batch(micro_batch).count
            trace.roots.append(self._splittable(own))
            trace.own_weight = float(count)
            self.ballot.auxiliaries[layer, micro_batch] = (own.item(), count)
        if self.training:
            self._traces[layer, micro_batch] = trace
        return out if layer == self._num_layers - 1 else cut_value(out)

    def _splittable(self, root: Tensor) -> Tensor:
        # The split backward detaches its roots in place, which a view does not allow.
        return root.clone() if self._splits and root._is_view() else root

    def _backward(self, action: Compute) -> None:
        first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
        if last < self._num_layers:
            gradients = tensors(self.values[Cargo.GRADIENT, last, micro_batch])
        else:
            loss = self._traces[last - 1, micro_batch].roots[0]
            gradients = (torch.ones_like(loss),)
        single = self._traces[first, micro_batch].single
        for layer in reversed(action.layers):
            began = time.perf_counter()
            if action.op is Op.I:
                gradients = self._input_gradients(layer, micro_batch, gradients)
            elif layer in self._unprobed:
                gradients = self._probed_gradients(layer, micro_batch, gradients)
                continue
            else:
                gradients = self._all_gradients(layer, micro_batch, gradients)
            self._note(action.op, layer, began)
        if first > 0:
            value = gradients[0] if single else gradients
            self.values[Cargo.GRADIENT, first, micro_batch] = value

    def _all_gradients(
        self, layer: int, micro_batch: int, gradients: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        trace = self._traces.pop((layer, micro_batch))
        inputs, weights = backward(trace, gradients, self._holdings.layers[layer].parameters)
        self._collect(layer, micro_batch, weights)
        return tuple(inputs)

    def _probed_gradients(
        self, layer: int, micro_batch: int, gradients: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """B, and I and W beside it for their times."""
        self._unprobed.remove(layer)
        trace = self._traces.pop((layer, micro_batch))
        trial = try_split(trace, gradients, self._holdings.layers[layer].parameters)
        self._holdings.splits[layer] = trial.exact
        for op, seconds in zip((Op.B, Op.I, Op.W), trial.seconds, strict=True):
            self._meter(op, layer, seconds)
        self._collect(layer, micro_batch, trial.weights)
        return tuple(trial.inputs)

    def _input_gradients(
        self, layer: int, micro_batch: int, gradients: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        held, trace = self._holdings.layers[layer], self._traces[layer, micro_batch]
        splits = self._holdings.splits
        if layer not in splits:
            trial = try_split(trace, gradients, held.parameters)
            splits[layer] = trial.exact
            trace.deferred, trace.finished = trial.weights, True
            return tuple(trial.inputs)
        if splits[layer]:
            return tuple(backward_input(trace, gradients, held.parameters))
        inputs, trace.deferred = backward(trace, gradients, held.parameters)
        trace.finished = True
        return tuple(inputs)

    def _weights(self, action: Compute) -> None:
        for layer in reversed(action.layers):
            began = time.perf_counter()
            trace = self._traces.pop((layer, action.micro_batch))
            weights = self._holdings.layers[layer].parameters
            found = trace.deferred if trace.finished else backward_weight(trace, weights)
            self._collect(layer, action.micro_batch, found)
            self._note(Op.W, layer, began)

    def _collect(self, layer: int, micro_batch: int, gradients: Sequence[Tensor]) -> None:
        found = [gradient.float() for gradient in gradients]
        self._holdings.computed(found)
        for (layers, watched), _ in self.watched.items():
            if watched == micro_batch and layer in layers:
                self._prints[layer, micro_batch] = seal(found)
                if all((other, micro_batch) in self._prints for other in layers):
                    self.watched[layers, micro_batch] = self._print(layers, micro_batch)
        self.partials[layer].put(micro_batch, found)

    def _print(self, layers: Span, micro_batch: int) -> str:
        return combine({str(layer): int(self._prints[layer, micro_batch], 16) for layer in layers})

    def again(self, layers: Span, micro_batch: int) -> str:
        """F and B once more, on traces and sums of their own."""
        mine = self._traces, self.ballot, self.partials, self.watched, self._prints
        values = dict(self.values)
        self._traces, self._prints = {}, {}
        self.ballot = Ballot(self._num_layers, self.tags.num_micro_batches, self.step_number)
        self.partials = {layer: self._empty(self.tags.num_micro_batches) for layer in layers}
        self.watched = {(layers, micro_batch): ""}
        try:
            self._forward(Compute(Op.F, layers, micro_batch))
            self._backward(Compute(Op.B, layers, micro_batch))
            return self._print(layers, micro_batch)
        finally:
            self._traces, self.ballot, self.partials, self.watched, self._prints = mine
            self.values = values

    def _note(self, op: Op, layer: int, began: float) -> None:
        if self.training:
            self._meter(op, layer, time.perf_counter() - began)

    def _meter(self, op: Op, layer: int, seconds: float) -> None:
        meter = self._holdings.meter.setdefault((op, layer), deque(maxlen=_METERED))
        meter.append(seconds)


def _probed_in(holdings: Holdings, layers: Iterable[int]) -> set[int]:
    """The layers whose turn it is, some in every step, so that none takes much longer.

    None under a memory budget, since a history that is kept longer takes room; none where the
    host's clock says nothing of the device's work.
    """
    turn = holdings.probing
    if turn is None or holdings.guard is not nullcontext or holdings.device.type != "cpu":
        return set()
    return {layer for layer in layers if layer % TURNS == turn}
