"""The step of a transformer on paper: a trace computed from shapes and speeds, nothing measured.

A Llama-like block saves, for each token, 8 h + 2 h_kv + 4 f elements (h hidden, f feed-forward):
inputs, normalised values and outputs of both norms, q, k, v, the attention's output, gate, up,
silu, and their product. What is elementwise can be made again almost for free; a block from its
input. Used to look at a policy where no such machine is at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ithaca.swap.identity import Identity, Phase, SegmentKey, size_bucket
from ithaca.swap.trace import Link, Point, Recipe, Replay, Role, Saved, Segment, Trace


@dataclass(frozen=True)
class Transformer:
    """Shapes and speeds.

    Args:
        layers: blocks.
        hidden: h.
        forward: f, of the gated feed-forward.
        kv: h_kv; ``None`` is h.
        sequence: tokens of a sample.
        batch: samples of a micro-batch.
        slots: micro-batches of the step, one after another.
        vocabulary: columns of the head.
        itemsize: bytes of an element.
        flop_per_s: of matrix products.
        bytes_per_s: of elementwise operators, read and written.
        paged_state: whether the optimizer state may be swapped, or is base.
    """

    layers: int
    hidden: int
    forward: int
    kv: int | None = None
    sequence: int = 256
    batch: int = 4
    slots: int = 1
    vocabulary: int = 1024
    itemsize: int = 4
    flop_per_s: float = 1e11
    bytes_per_s: float = 1e10
    paged_state: bool = False

    @property
    def tokens(self) -> int:
        """Rows of a micro-batch."""
        return self.batch * self.sequence

    @property
    def layer_parameters(self) -> int:
        """Elements of a block's matrices."""
        kv = self.kv or self.hidden
        return 2 * self.hidden**2 + 2 * self.hidden * kv + 3 * self.hidden * self.forward

    def trace(self, links: Sequence[Link] = ()) -> Trace:
        """Its step, with these links."""
        return _Writer(self).write(tuple(links))


@dataclass
class _Draft:
    """A storage whose points are not all known yet."""

    identity: Identity
    nbytes: int
    produced: int
    forward_use: int
    first: int = -1
    last: int = -1


@dataclass
class _Writer:
    shape: Transformer
    points: list[Point] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    drafts: list[_Draft] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    states: list[Saved] = field(default_factory=list)
    key: SegmentKey = field(default_factory=lambda: SegmentKey(Phase.FORWARD, ""))
    began: int = 0

    def write(self, links: tuple[Link, ...]) -> Trace:
        shape = self.shape
        outer = 2 * shape.vocabulary * shape.hidden
        parameters = shape.layers * shape.layer_parameters + outer
        state = 8 * parameters
        gradients = parameters * shape.itemsize
        fixed = parameters * shape.itemsize + gradients + (0 if shape.paged_state else state)
        for slot in range(shape.slots):
            blocks = [self._forward(layer, slot) for layer in range(shape.layers)]
            self._head(slot)
            for layer in reversed(range(shape.layers)):
                self._backward(layer, slot, blocks[layer])
        count = shape.layers if shape.paged_state else 0
        owners = [self._step(layer, layer < count) for layer in range(shape.layers)]
        states = [part for part in owners if part is not None]
        end, first = len(self.points), len(states)
        saved = [
            Saved(
                *(draft.identity, draft.nbytes, draft.produced, draft.forward_use),
                *(draft.forward_use + 1, draft.first, draft.last, draft.last + 1),
            )
            for draft in self.drafts
        ]
        points = [
            Point(point.name, point.seconds, point.base_bytes + fixed, point.workspace_bytes)
            for point in self.points
        ]
        assert all(part.freed_at <= end for part in saved)
        replays = [
            Replay(
                *(part.name, part.recipe, part.seconds),
                tuple(index + first for index in part.outputs),
                tuple(index + first for index in part.inputs),
                part.workspace_bytes,
            )
            for part in self.replays
        ]
        return Trace(
            segments=tuple(self.segments),
            points=tuple(points),
            saved=(*states, *saved),
            replays=tuple(replays),
            links=links,
            persistent_bytes=parameters * shape.itemsize + state,
            gradient_bytes=gradients,
        )

    def _open(self, phase: Phase, module: str, slot: int) -> None:
        self.key, self.began = SegmentKey(phase, module, slot), len(self.points)

    def _close(self) -> None:
        mine = self.points[self.began :]
        shape = self.shape
        text = " ".join(point.name for point in mine) + f" {shape.tokens}x{shape.hidden}"
        content = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.segments.append(Segment(self.key, self.began, len(self.points), content))

    def _matmul(self, name: str, flop: float, workspace: int = 0) -> None:
        self.points.append(Point(name, flop / self.shape.flop_per_s, 0, workspace))

    def _elementwise(self, name: str, elements: int, workspace: int = 0) -> float:
        seconds = elements * self.shape.itemsize / self.shape.bytes_per_s
        self.points.append(Point(name, seconds, 0, workspace))
        return seconds

    def _save(self, width: int, forward_use: int) -> int:
        """A storage made by the latest point, last used in the forward by ``forward_use``."""
        nbytes = self.shape.tokens * width * self.shape.itemsize
        ordinal = sum(1 for draft in self.drafts if draft.identity.segment == self.key)
        name = Identity(self.key, ordinal, ordinal, "float32", 3, size_bucket(nbytes))
        self.drafts.append(_Draft(name, nbytes, len(self.points) - 1, forward_use))
        return len(self.drafts) - 1

    def _forward(self, layer: int, slot: int) -> dict[str, int]:
        shape, h, f = self.shape, self.shape.hidden, self.shape.forward
        kv, t = shape.kv or shape.hidden, self.shape.tokens
        self._open(Phase.FORWARD, f"blocks.{layer}", slot)
        at = len(self.points)
        save: dict[str, int] = {}
        self._elementwise("input", 2 * t * h)
        save["x"] = self._save(h, at + 4)
        norm = self._elementwise("norm1", 3 * t * h)
        save["hat1"], save["norm1"] = self._save(h, at + 1), self._save(h, at + 2)
        self._matmul("qkv", 2.0 * t * h * (h + 2 * kv))
        save["q"], save["kv"] = self._save(h, at + 3), self._save(2 * kv, at + 3)
        self._matmul("attention", 2.0 * t * shape.sequence * h)
        save["o"] = self._save(h, at + 4)
        self._matmul("project", 2.0 * t * h * h)
        save["x2"] = self._save(h, at + 9)
        self._elementwise("norm2", 3 * t * h)
        save["hat2"], save["norm2"] = self._save(h, at + 5), self._save(h, at + 6)
        self._matmul("gate_up", 4.0 * t * h * f)
        save["gate"], save["up"] = self._save(f, at + 7), self._save(f, at + 8)
        silu = self._elementwise("silu", 2 * t * f)
        save["silu"] = self._save(f, at + 8)
        product = self._elementwise("product", 3 * t * f)
        save["product"] = self._save(f, at + 9)
        self._matmul("down", 2.0 * t * h * f)
        self._close()
        seconds = sum(point.seconds for point in self.points[at + 1 :])
        self._replay("norm1", Recipe.CHEAP, norm, [save["hat1"], save["norm1"]], [save["x"]])
        self._replay("norm2", Recipe.CHEAP, norm, [save["hat2"], save["norm2"]], [save["x2"]])
        self._replay("silu", Recipe.CHEAP, silu, [save["silu"]], [save["gate"]])
        inputs = [save["up"], save["silu"]]
        self._replay("product", Recipe.CHEAP, product, [save["product"]], inputs)
        outputs = [index for name, index in save.items() if name != "x"]
        self._replay("block", Recipe.BLOCK, seconds, outputs, [save["x"]])
        return save

    def _replay(
        self, name: str, recipe: Recipe, seconds: float, outputs: list[int], inputs: list[int]
    ) -> None:
        full = f"{recipe.value}:{self.key}:{name}"
        self.replays.append(Replay(full, recipe, seconds, tuple(outputs), tuple(inputs)))

    def _use(self, *indices: int) -> None:
        """The latest point reads these in the backward."""
        at = len(self.points) - 1
        for index in indices:
            draft = self.drafts[index]
            draft.first = at if draft.first < 0 else draft.first
            draft.last = at

    def _head(self, slot: int) -> None:
        shape = self.shape
        flop = 2.0 * shape.tokens * shape.hidden * shape.vocabulary
        self._open(Phase.FORWARD, "head", slot)
        at = len(self.points)
        self._matmul("head", flop)
        logits = self._save(shape.vocabulary, at + 1)
        self._elementwise("loss", 3 * shape.tokens * shape.vocabulary)
        self._close()
        self._open(Phase.BACKWARD, "head", slot)
        self._elementwise("loss", 3 * shape.tokens * shape.vocabulary)
        self._use(logits)
        self._matmul("head", 2 * flop)
        self._close()

    def _backward(self, layer: int, slot: int, save: dict[str, int]) -> None:
        shape, h, f = self.shape, self.shape.hidden, self.shape.forward
        kv, t = shape.kv or shape.hidden, self.shape.tokens
        wide, narrow = 2 * t * f * shape.itemsize, 3 * t * h * shape.itemsize
        self._open(Phase.BACKWARD, f"blocks.{layer}", slot)
        self._matmul("down", 4.0 * t * h * f, narrow + wide // 2)
        self._use(save["product"])
        self._elementwise("product", 6 * t * f, narrow + wide)
        self._use(save["silu"], save["up"])
        self._elementwise("silu", 3 * t * f, narrow + wide)
        self._use(save["gate"])
        self._matmul("gate_up", 8.0 * t * h * f, narrow + wide)
        self._use(save["norm2"])
        self._elementwise("norm2", 6 * t * h, narrow)
        self._use(save["hat2"], save["x2"])
        self._matmul("project", 4.0 * t * h * h, narrow)
        self._use(save["o"])
        self._matmul("attention", 4.0 * t * shape.sequence * h, 2 * narrow)
        self._use(save["q"], save["kv"], save["o"])
        self._matmul("qkv", 4.0 * t * h * (h + 2 * kv), 2 * narrow)
        self._use(save["norm1"])
        self._elementwise("norm1", 6 * t * h, narrow)
        self._use(save["hat1"], save["x"])
        self._close()

    def _step(self, layer: int, paged: bool) -> Saved | None:
        self._open(Phase.OPTIMIZER, f"blocks.{layer}", 0)
        elements = self.shape.layer_parameters
        at = len(self.points)
        self._elementwise("adamw", 7 * elements)
        self._close()
        if not paged:
            return None
        nbytes = 8 * elements
        name = Identity(self.key, 0, 0, "float32", 1, size_bucket(nbytes))
        return Saved(name, nbytes, 0, 0, None, at, at, at + 1, role=Role.STATE)
