"""The unit of placement: one module of the workload's sequence, with what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer and its costs for one micro-batch.

    Attributes:
        name: unique in the sequence.
        param_bytes: the parameters as the forward reads them.
        grad_bytes: one fp32 copy of the gradient of all its parameters.
        state_bytes: what the optimizer keeps (master weights, moments).
        activation_bytes: saved from forward to backward for one micro-batch.
        output_bytes: crosses the cut behind the layer, once per direction.
        forward_s: seconds of F.
        backward_s: seconds of B, input and weight gradients together.
        input_s: seconds of I, the input gradient alone.
        weight_s: seconds of W, the weight gradient alone.
        step_s: seconds of the optimizer step.
        split: whether I + W were seen to give the bits of B; if not the plan uses B.
    """

    name: str
    param_bytes: int = 0
    grad_bytes: int = 0
    state_bytes: int = 0
    activation_bytes: int = 0
    output_bytes: int = 0
    forward_s: float = 0.0
    backward_s: float = 0.0
    input_s: float = 0.0
    weight_s: float = 0.0
    step_s: float = 0.0
    split: bool = False
