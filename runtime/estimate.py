"""The costs of a workload's layers without training: sizes are counted, times are nominal.

Each layer is built without memory (torch's ``meta`` device) to count its parameters, and one of
each kind is called once, for real, on micro-batch 0 of step 0 to see what it saves and gives out.
Times are floating-point operations over a nominal rate: right in proportion, which is what a
layout needs, and wrong in absolute terms until something is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ithaca.planner.layer import Layer
from ithaca.planner.profile import Profile
from ithaca.runtime.config.job import Job, Precision
from ithaca.runtime.config.units import about_size
from ithaca.runtime.errors import UserError
from ithaca.runtime.free_memory import free_bytes
from ithaca.runtime.operations import CountOperations, WithoutValues
from ithaca.runtime.workload import (
    Batch,
    BatchId,
    LayerSpec,
    Value,
    WithLoss,
    Workload,
    default_dtype,
    like,
    tensors,
)

NOMINAL_FLOPS = 2e10
"""Floating-point operations per second and thread that a layer is taken to reach."""

_NOMINAL_STEP = 5e8
_LEAST_S = 2e-5
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, OSError, MemoryError)


@dataclass(frozen=True, slots=True)
class _Cost:
    """One forward of one layer: its operations, what it saved in bytes, and what came out."""

    flops: int
    saved_bytes: int
    output: Value


class CannotComputeError(UserError):
    """The workload gives no batch, or a layer fails on the output of the one before it."""


def static_profile(workload: Workload, job: Job) -> Profile:
    """The profile of ``workload`` as ``job`` would run it, without training.

    Raises:
        CannotComputeError: there is no batch, or a layer cannot be built or called.
    """
    specs = workload.layers()
    dtype = default_dtype(job.precision.value)
    batch = _first_batch(workload)
    value, known, layers = batch.inputs, _Kinds(batch, dtype), []
    with torch.random.fork_rng(devices=[]):
        for spec in specs:
            module, cost = known.cost(spec, value)
            layers.append(_layer(spec.name, module, cost, job))
            value = cost.output
    rate = f"{NOMINAL_FLOPS * job.cluster.threads / 1e9:g} GFLOP/s"
    origin = {
        "bytes": "counted on micro-batch 0 of step 0",
        "times": f"nominal: floating-point operations at {rate} per worker",
        "link": "nominal",
        "split": "assumed; each layer is checked when a run starts",
    }
    return Profile(tuple(layers), origin=origin)


def _first_batch(workload: Workload) -> Batch:
    try:
        return workload.batch(BatchId(0, 0))
    except _FAILURES as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CannotComputeError(f"the workload's first batch fails with {text}") from error


class _Kinds:
    """Costs by kind: modules with the same shapes, called on the same shapes, cost the same."""

    def __init__(self, batch: Batch, dtype: torch.dtype) -> None:
        self._batch = batch
        self._dtype = dtype
        self._known: dict[Any, _Cost] = {}

    def cost(self, spec: LayerSpec, value: Value) -> tuple[nn.Module, _Cost]:
        """The module of ``spec``, on the meta device, and its cost when called on ``value``."""
        module = _build(spec, "meta").to(self._dtype)
        key = _kind(module), spec.needs_batch, tuple((t.shape, t.dtype) for t in tensors(value))
        if key not in self._known:
            self._known[key] = self._called(spec, 4 * _count(module), value)
        return module, self._known[key]

    def _called(self, spec: LayerSpec, size: int, value: Value) -> _Cost:
        free = free_bytes()
        if free is not None and size > free:
            raise CannotComputeError(
                f"layer {spec.name!r} has {about_size(size)} of parameters, more than the "
                f"{about_size(free)} of memory that are free here; make it smaller"
            )
        module = _build(spec, "cpu").to(self._dtype)
        batch = (self._batch,) if spec.needs_batch else ()
        parts = [t.to(self._dtype) if t.is_floating_point() else t for t in tensors(value)]
        try:
            return _call(module, like(value, parts), *batch)
        except _FAILURES as error:
            text = " ".join(str(error).split())[:200]
            raise CannotComputeError(f"layer {spec.name!r} fails when called: {text}") from error


def _call(module: nn.Module, value: Value, *batch: Batch) -> _Cost:
    own = {p.untyped_storage()._cdata for p in (*module.parameters(), *module.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = tensor.numel() * tensor.element_size()
        return tensor

    for tensor in tensors(value):
        if tensor.is_floating_point():
            tensor.requires_grad_()
    counter = CountOperations()
    with saved_tensors_hooks(pack, lambda tensor: tensor), counter:
        result = module(value, *batch)
    output = result.value if isinstance(result, WithLoss) else result
    value = like(output, [part.detach() for part in tensors(output)])
    return _Cost(counter.flops, sum(saved.values()), value)


def _build(spec: LayerSpec, device: str) -> nn.Module:
    try:
        with torch.device(device), WithoutValues():
            return spec.build()
    except _FAILURES as error:
        text = " ".join(str(error).split())[:200]
        raise CannotComputeError(f"layer {spec.name!r} cannot be built: {text}") from error


def _kind(module: nn.Module) -> tuple[Any, ...]:
    shapes = tuple((name, p.shape) for name, p in module.named_parameters())
    return type(module), repr(module), shapes


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layer(name: str, module: nn.Module, cost: _Cost, job: Job) -> Layer:
    count = _count(module)
    narrow = job.precision is Precision.BF16
    seconds = max(_LEAST_S, cost.flops / (NOMINAL_FLOPS * job.cluster.threads))
    return Layer(
        name=name,
        param_bytes=count * (2 if narrow else 4),
        grad_bytes=4 * count,
        state_bytes=(12 if narrow else 8) * count,
        activation_bytes=cost.saved_bytes,
        output_bytes=_bytes(tensors(cost.output)),
        forward_s=seconds,
        backward_s=2 * seconds,
        input_s=seconds,
        weight_s=seconds,
        step_s=count / _NOMINAL_STEP,
        split=True,
    )


def _bytes(parts: Sequence[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts)
