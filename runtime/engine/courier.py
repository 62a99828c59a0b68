"""Carries values over cuts: one message per tensor, into receives that were posted early.

A receive needs a buffer of the right shape. In the first step in which two workers use a cut every
activation is announced by a header; afterwards both know the shapes, receives are posted ahead and
the tensors travel while the receiver computes. A workload whose shapes vary announces always. A
gradient has the shapes of the activation that went the other way, so it is never announced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ithaca.planner.program import Cargo, Transfer
from ithaca.runtime.engine.channel import Channel
from ithaca.runtime.engine.steps import Pending, Steps
from ithaca.runtime.engine.tags import HEADER, Tags
from ithaca.runtime.workload import Value, tensors

_TYPES = (
    torch.float32, torch.bfloat16, torch.float16, torch.float64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
_HEADER_SIZE = 128
Key = tuple[Cargo, int, int]


@dataclass(frozen=True, slots=True)
class Form:
    """Types and shapes of a value; ``single`` for one tensor that is not in a tuple."""

    single: bool
    parts: tuple[tuple[torch.dtype, tuple[int, ...]], ...]

    @classmethod
    def of(cls, value: Value) -> Form:
        """The form of ``value``; ``ValueError`` if it cannot be announced."""
        parts = tuple((t.dtype, tuple(t.shape)) for t in tensors(value))
        if len(parts) > HEADER or 2 + sum(2 + len(s) for _, s in parts) > _HEADER_SIZE:
            raise ValueError(f"at most {HEADER} tensors may cross a cut, of few dimensions each")
        return cls(isinstance(value, Tensor), parts)

    def gradient(self) -> Form:
        """The form of the gradient: the floating parts."""
        return Form(self.single, tuple(part for part in self.parts if part[0].is_floating_point))

    def header(self) -> Tensor:
        """Int64 words that :meth:`read` understands."""
        words = [int(self.single), len(self.parts)]
        for dtype, shape in self.parts:
            words += [_TYPES.index(dtype), len(shape), *shape]
        return torch.tensor(words + [0] * (_HEADER_SIZE - len(words)))

    @classmethod
    def read(cls, header: Tensor) -> Form:
        """The form that :meth:`header` wrote."""
        words = iter(header.tolist())
        single, count = bool(next(words)), next(words)
        parts = []
        for _ in range(count):
            dtype, ndim = _TYPES[next(words)], next(words)
            parts.append((dtype, tuple(next(words) for _ in range(ndim))))
        return cls(single, tuple(parts))

    @property
    def nbytes(self) -> int:
        """Of all its tensors."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.parts)

    def value(self, parts: list[Tensor]) -> Value:
        """Tensors of this form as a value."""
        return parts[0] if self.single else tuple(parts)


def empty_header() -> Tensor:
    """Room for a header."""
    return torch.empty(_HEADER_SIZE, dtype=torch.int64)


@dataclass(slots=True)
class Parcel:
    """A posted receive: a header still to come, or buffers that are being filled."""

    peer: int
    tag: int
    form: Form | None
    pending: list[Pending] = field(default_factory=list)


class Courier:
    """Sends and receives the values of one kind of Program in one generation.

    Attributes:
        late_bytes: of the largest value of the last step whose buffers were allocated only when it
            came, or shortly before, because its shapes were not known; in later steps it is posted
            ahead as far as all others.
    """

    def __init__(
        self, channel: Channel, tags: Tags, fixed_shapes: bool, device: torch.device
    ) -> None:
        self._channel = channel
        self._tags = tags
        self._fixed = fixed_shapes
        self._device = device
        self._forms: dict[int, Form] = {}
        self._known: set[tuple[int, int]] = set()
        self._used: set[tuple[int, int]] = set()
        self._sent: dict[tuple[int, int], Form] = {}
        self._parcels: dict[Key, Parcel] = {}
        self._late = self.late_bytes = 0

    def end_step(self) -> None:
        """The step is over everywhere: forget its messages, remember its shapes."""
        self.late_bytes, self._late = self._late, 0
        if self._fixed:
            self._known |= self._used
        self._used.clear()
        self._sent.clear()
        self._parcels.clear()

    def seed(self, cut: int, micro_batch: int, activation: Value) -> None:
        """An activation that crossed, or will not cross, in an earlier generation of the step."""
        self._sent[cut, micro_batch] = Form.of(activation)

    def _announces(self, action: Transfer) -> bool:
        place = (action.peer, action.cut)
        self._used.add(place)
        return place not in self._known

    def send(self, action: Transfer, value: Value) -> None:
        """Start to send ``value``; ``ValueError`` if a fixed shape changed."""
        tag = self._tags.transfer(action)
        if action.cargo is Cargo.ACTIVATION:
            form = Form.of(value)
            self._sent[action.cut, action.micro_batch] = form
            if self._announces(action):
                self._channel.send(action.peer, tag + HEADER, form.header())
            elif self._forms.get(action.cut, form) != form:
                raise ValueError(
                    f"the output of layer {action.cut - 1} changed from "
                    f"{self._forms[action.cut].parts} to {form.parts}; a workload whose shapes "
                    "vary between micro-batches sets fixed_shapes = False"
                )
            self._forms[action.cut] = form
        for part, tensor in enumerate(tensors(value)):
            self._channel.send(action.peer, tag + part, tensor)

    def can_post(self, action: Transfer) -> bool:
        """Whether the receive can be posted before anything else happens."""
        if action.cargo is Cargo.ACTIVATION or self._foresees(action):
            return True
        return (action.cut, action.micro_batch) in self._sent

    def _foresees(self, action: Transfer) -> bool:
        return (action.peer, action.cut) in self._known and action.cut in self._forms

    def _came_late(self, form: Form) -> None:
        if self._fixed:
            self._late = max(self._late, form.nbytes)

    def post(self, action: Transfer) -> None:
        """Post the receive of ``action``."""
        parcel = Parcel(action.peer, self._tags.transfer(action), None)
        self._parcels[action.key] = parcel
        if action.cargo is Cargo.GRADIENT:
            sent = self._sent.get((action.cut, action.micro_batch))
            parcel.form = (sent or self._forms[action.cut]).gradient()
            if not self._foresees(action):
                self._came_late(parcel.form)
        elif not self._announces(action):
            parcel.form = self._forms[action.cut]
        if parcel.form is None:
            tag = parcel.tag + HEADER
            parcel.pending = [self._channel.receive(action.peer, tag, empty_header())]
        else:
            parcel.pending = self._post_parts(parcel, parcel.form)

    def _post_parts(self, parcel: Parcel, form: Form) -> list[Pending]:
        return [
            self._channel.receive(
                parcel.peer,
                parcel.tag + part,
                torch.empty(shape, dtype=dtype, device=self._device),
            )
            for part, (dtype, shape) in enumerate(form.parts)
        ]

    def awaits(self, key: Key) -> bool:
        """Whether a receive of ``key`` was posted and not fetched yet."""
        return key in self._parcels

    def fetch(self, key: Key) -> Steps[Value]:
        """The value of a posted receive, when it has come."""
        parcel = self._parcels.pop(key)
        if parcel.form is None:
            parcel.form = Form.read((yield parcel.pending[0]))
            self._forms[key[1]] = parcel.form
            self._came_late(parcel.form)
            parcel.pending = self._post_parts(parcel, parcel.form)
        parts = []
        for pending in parcel.pending:
            parts.append((yield pending))
        return parcel.form.value(parts)
