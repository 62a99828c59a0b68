"""Activations to pinned host memory, as torchtune's OffloadActivations is described to do it.

Own code after its description: one stream for copies beside the one that computes; tensors from
1 KiB on, parameters left out; the device's copy is held until its way out has ended, or until five
more tensors were sent; on the way back nothing is fetched ahead but the next one in order. Knows
no budget. Differs: parameters are told by storage, and the copy's source is held by reference and
event instead of record_stream.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

SMALLEST = 1024
HELD = 5


class OffloadActivations(saved_tensors_hooks):
    """A context for the forward of a step on CUDA.

    Args:
        model: whose parameters and buffers stay.
    """

    def __init__(self, model: nn.Module) -> None:
        tensors = (*model.parameters(), *model.buffers())
        self._resident = {tensor.untyped_storage()._cdata for tensor in tensors}
        self._stream = torch.cuda.Stream()
        self._away: dict[int, tuple[Tensor, Tensor]] = {}
        self._back: dict[int, tuple[Tensor, torch.cuda.Event]] = {}
        self._held: deque[tuple[Tensor, torch.cuda.Event]] = deque()
        self._count = 0
        super().__init__(self._pack, self._unpack)

    def __enter__(self) -> None:
        self._count = 0
        self._away.clear()
        self._back.clear()
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        while self._held:
            self._let_go()
        super().__exit__(*error)

    def _let_go(self) -> None:
        tensor, event = self._held.popleft()
        torch.cuda.current_stream().wait_event(event)
        del tensor

    def _pack(self, tensor: Tensor) -> Any:  # noqa: ANN401
        storage = tensor.untyped_storage()
        if not tensor.is_cuda or tensor.nbytes < SMALLEST or storage._cdata in self._resident:
            return tensor
        number, self._count = self._count, self._count + 1
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
            event = self._stream.record_event()
        self._held.append((tensor, event))
        if len(self._held) > HELD:
            self._let_go()
        self._away[number] = (host, torch.empty(0, device=tensor.device))
        return number

    def _fetch(self, number: int) -> None:
        if number in self._back or number not in self._away:
            return
        host, where = self._away.pop(number)
        # Allocated by the stream that uses it, so that it is given back there.
        tensor = torch.empty_like(host, device=where.device)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            tensor.copy_(host, non_blocking=True)
            self._back[number] = (tensor, self._stream.record_event())

    def _unpack(self, packed: Any) -> Tensor:  # noqa: ANN401
        if isinstance(packed, Tensor):
            return packed
        self._fetch(packed)
        tensor, event = self._back.pop(packed)
        torch.cuda.current_stream().wait_event(event)
        self._fetch(packed - 1)
        return tensor
