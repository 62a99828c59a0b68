"""Turns one bit of a tensor around."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def flip(tensors: Sequence[Tensor], chance: Random) -> str:
    """Turn one bit in one of ``tensors``, in place; where, as text.

    Never a bit of the exponent of a floating number: what is to be found must not announce itself
    as an infinity.

    Raises:
        ValueError: there is no element.
    """
    import torch  # here: a controller takes faults too, and has no tensors

    filled = [number for number, tensor in enumerate(tensors) if tensor.numel()]
    if not filled:
        raise ValueError("there is no tensor to turn a bit of")
    number = chance.choice(filled)
    tensor = tensors[number].data  # autograd must not hear of it
    place = chance.randrange(tensor.numel())
    width = tensor.element_size() * 8
    bit = chance.randrange(8 if tensor.is_floating_point() and width == 16 else min(width, 23))
    if tensor.dtype is torch.bool:
        bit = 0
    index = _index(place, tuple(tensor.shape))
    element = tensor[index].clone().reshape(1)
    words = element.view(torch.uint8).clone()
    words[bit // 8] ^= 1 << (bit % 8)
    tensor[index] = words.view(element.dtype)[0]
    return f"bit {bit} of element {place} of tensor {number}"


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index: list[int] = []
    for size in reversed(shape):
        index.insert(0, place % size)
        place //= size
    return tuple(index)
