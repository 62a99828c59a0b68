"""What has to be put back before a step is tried again."""

from __future__ import annotations

import weakref

import torch
from torch import nn

from ithaca.swap.device import device_of, random_state, set_random_state


class Attempt:
    """Remembers a model as it was before a step: buffers, random state, which gradients it had.

    Parameters need no copy: a step is not tried again once its optimizer has begun. Gradients are
    not copied either. A step that begins with ``zero_grad`` does not need the old ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self._gradients = [(parameter, _Before(parameter)) for parameter in model.parameters()]
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        self._device = device_of(model)
        self._random = random_state(self._device)

    def put_back(self) -> None:
        """Makes the model what it was; ``RuntimeError`` if the step added to older gradients."""
        if any(known.changed(parameter) for parameter, known in self._gradients):
            raise RuntimeError(
                "the step ran out of memory and cannot be tried again, because it has added to "
                "gradients that were there before it: call zero_grad(set_to_none=True) in the "
                "step, before the forward"
            )
        for parameter, known in self._gradients:
            if not known.there(parameter):
                parameter.grad = None
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        set_random_state(self._random, self._device)


class _Before:
    """The gradient that a parameter had before the step, which is not kept alive."""

    def __init__(self, parameter: nn.Parameter) -> None:
        gradient = parameter.grad
        self._known = None if gradient is None else (weakref.ref(gradient), gradient._version)

    def there(self, parameter: nn.Parameter) -> bool:
        """Whether the parameter still has it."""
        gradient = parameter.grad
        return gradient is not None and self._known is not None and self._known[0]() is gradient

    def changed(self, parameter: nn.Parameter) -> bool:
        """Whether it was added to."""
        gradient = parameter.grad
        if gradient is None or self._known is None or self._known[0]() is not gradient:
            return False
        return gradient._version != self._known[1]
