"""A layer that this worker holds: its module, its fp32 weights, its optimizer state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ithaca.runtime.engine.adamw import LayerOptimizer
from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.engine.randomness import Randomness
from ithaca.runtime.engine.state_hash import combine
from ithaca.runtime.workload import LayerSpec, TiedWeights


@dataclass(frozen=True, slots=True)
class Model:
    """The workload's layers as the engine needs them.

    Attributes:
        specs: one per layer, in order.
        ties: weights that two layers share.
    """

    specs: tuple[LayerSpec, ...]
    ties: tuple[TiedWeights, ...] = ()

    def __post_init__(self) -> None:
        names = [spec.name for spec in self.specs]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a workload has at least one layer and names are unique; got {names}")
        for tie in self.ties:
            for layer, _ in (tie.first, tie.second):
                if layer not in names:
                    raise ValueError(f"tied weights name layer {layer!r}; there are {names}")
            if names.index(tie.first[0]) >= names.index(tie.second[0]):
                raise ValueError(f"tied weights go from a lower to an upper layer, not {tie}")
        ends = [end for tie in self.ties for end in (tie.first, tie.second)]
        if len(set(ends)) != len(ends):
            raise ValueError("a parameter can be tied to one other only")

    def index(self, name: str) -> int:
        """The layer called ``name``."""
        return next(i for i, spec in enumerate(self.specs) if spec.name == name)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of layers (lower, upper) that share weights, each once."""
        pairs = {(self.index(tie.first[0]), self.index(tie.second[0])) for tie in self.ties}
        return tuple(sorted(pairs))

    def tied(self, lower: int, upper: int) -> list[tuple[str, str]]:
        """Parameter names (in the lower, in the upper layer) that the two layers share."""
        return sorted(
            (tie.first[1], tie.second[1])
            for tie in self.ties
            if (self.index(tie.first[0]), self.index(tie.second[0])) == (lower, upper)
        )

    def repeated(self, layer: int) -> frozenset[str]:
        """Parameters of ``layer`` that a lower layer holds too: the norm leaves them out."""
        name = self.specs[layer].name
        return frozenset(tie.second[1] for tie in self.ties if tie.second[0] == name)

    def initial(self, layer: int, randomness: Randomness) -> nn.Module:
        """The layer with its initial fp32 weights: a function of (seed, layer) alone."""
        randomness.weights(layer)
        module = self.specs[layer].build()
        _refuse_running_statistics(self.specs[layer].name, module)
        for tie in self.ties:
            if tie.second[0] == self.specs[layer].name:
                source = self.initial(self.index(tie.first[0]), randomness)
                mine = _parameter(module, *tie.second)
                theirs = _parameter(source, *tie.first)
                if mine.shape != theirs.shape:
                    raise ValueError(
                        f"tied weights have one shape; {tie.first} is {tuple(theirs.shape)}, "
                        f"{tie.second} is {tuple(mine.shape)}"
                    )
                with torch.no_grad():
                    mine.copy_(theirs)
        return module


def _parameter(module: nn.Module, layer: str, name: str) -> nn.Parameter:
    found = dict(module.named_parameters())
    if name not in found:
        raise ValueError(
            f"tied weights name parameter {name!r} of layer {layer}, which has {sorted(found)}"
        )
    return found[name]


def _refuse_running_statistics(name: str, module: nn.Module) -> None:
    for path, part in module.named_modules():
        if getattr(part, "track_running_stats", False):
            raise ValueError(
                f"layer {name}: {path or type(part).__name__} keeps running statistics over "
                "micro-batches, which would depend on the layout; build it with "
                "track_running_stats=False"
            )


class HeldLayer:
    """One layer on one worker.

    The module computes in ``dtype``; the weights that are stepped, hashed and saved are fp32.
    With fp32 both are the same tensors.
    """

    def __init__(
        self,
        index: int,
        model: Model,
        randomness: Randomness,
        dtype: torch.dtype,
        device: torch.device,
        settings: OptimizerSettings,
    ) -> None:
        self.index = index
        self.name = model.specs[index].name
        self.needs_batch = model.specs[index].needs_batch
        self.repeated = model.repeated(index)
        module = model.initial(index, randomness).to(device)
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self.names = tuple(name for name, _ in named)
        for _, parameter in named:
            parameter.data = parameter.data.contiguous()
        if dtype is torch.float32:
            self.masters: list[Tensor] = [parameter for _, parameter in named]
        else:
            self.masters = [nn.Parameter(p.detach().float().clone()) for _, p in named]
            module.to(dtype)
        self.module = module
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self.optimizer = LayerOptimizer(self.names, self.masters, settings)

    def step(self, gradients: Sequence[Tensor], lr: float, divisor: float) -> None:
        """One optimizer step with ``gradients / divisor``; fp32, in the order of ``names``."""
        self.optimizer.step(gradients, lr, divisor)
        self.publish()

    def publish(self) -> None:
        """Let the module compute with the weights: where it computes in another type, copy them."""
        if self.parameters and self.parameters[0] is not self.masters[0]:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.masters)

    def state(self) -> dict[str, Tensor]:
        """The weights, moments and step counts: references, not copies, keyed as on disk."""
        named = dict(zip(self.names, self.masters, strict=True))
        state = {f"param.{name}": weight.detach() for name, weight in named.items()}
        state.update(self.optimizer.state())
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state that :meth:`state` gave; ``ValueError`` if it does not fit."""
        mine = self.state()
        wrong = [
            key for key in mine.keys() | state.keys()
            if key not in mine or key not in state or mine[key].shape != state[key].shape
            or mine[key].dtype != state[key].dtype
        ]  # fmt: skip
        if wrong:
            raise ValueError(f"the state of layer {self.name} does not fit: {sorted(wrong)[:5]}")
        with torch.no_grad():
            for key, tensor in mine.items():
                tensor.copy_(state[key])
        self.publish()

    def hash(self) -> str:
        """A hash of the whole state, 32 hex digits."""
        return combine({key: hash_tensor(tensor) for key, tensor in self.state().items()})

    def squares(self, gradients: Sequence[Tensor]) -> float:
        """Sum of squares of ``gradients`` as the norm counts them, parameter by parameter."""
        counted = [
            gradient
            for name, gradient in zip(self.names, gradients, strict=True)
            if name not in self.repeated
        ]
        if not counted:
            return 0.0
        norms = torch.stack(torch._foreach_norm(counted)).tolist()
        return float(sum(norm * norm for norm in norms))
