"""What has to be put back before a step is tried again."""

from __future__ import annotations

import torch
from torch import nn

from ithaca.swap.device import device_of, random_state, set_random_state


class Attempt:
    """Remembers a model as it was before a step: buffers, random state, that it had no gradients.

    Parameters need no copy: a step is not tried again once its optimizer has begun.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._fresh = all(parameter.grad is None for parameter in model.parameters())
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        self._device = device_of(model)
        self._random = random_state(self._device)

    def put_back(self) -> None:
        """Makes the model what it was; ``RuntimeError`` if there were gradients before the step."""
        if not self._fresh:
            raise RuntimeError(
                "the step ran out of memory and cannot be tried again, because gradients were "
                "there before it: call zero_grad(set_to_none=True) in the step, before the forward"
            )
        for parameter in self._model.parameters():
            parameter.grad = None
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        set_random_state(self._random, self._device)
