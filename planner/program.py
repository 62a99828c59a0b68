"""What one worker does in one step, in order, in a text form that parses back.

The simulator predicts a Program and the engine runs it; neither re-derives a schedule. Actions
name layers and micro-batches themselves, so that a set of Programs can be checked without the
plan it came from. The notation follows torch.distributed.pipelining and Zero Bubble
(arXiv 2401.10241): F forward, B backward, I and W its input- and weight-gradient parts.

A transfer moves one tensor over a *cut*: cut ``c`` lies between layers ``c - 1`` and ``c``. An
activation ``a`` goes up over it, the gradient ``g`` of that activation comes back. RECV posts the
receive; the first action that needs the tensor waits for it. SEND starts the send; nothing waits
for it before the commit. Programs are in an order that would not deadlock even if every SEND
blocked until its RECV was reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ithaca.planner.span import Span, format_ids, parse_ids


class Op(Enum):
    """The kinds of action; the value is the word in the text form."""

    F = "F"
    B = "B"
    I = "I"  # noqa: E741 - the field's own letter
    W = "W"
    SEND = "SEND"
    RECV = "RECV"
    REDUCE = "REDUCE"
    SPREAD = "SPREAD"
    TIE = "TIE"
    REPLAY = "REPLAY"
    COMMIT = "COMMIT"
    STEP = "STEP"


class Cargo(Enum):
    """What a transfer carries over a cut."""

    ACTIVATION = "a"
    GRADIENT = "g"


@dataclass(frozen=True, slots=True)
class Compute:
    """F, B, I or W of ``micro_batch`` on ``layers``; written ``F 0:3 m2``."""

    op: Op
    layers: Span
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.op.value} {self.layers} m{self.micro_batch}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """SEND to or RECV from ``peer``; written ``SEND a3 m2 > w4`` and ``RECV g3 m2 < w4``."""

    op: Op
    cargo: Cargo
    cut: int
    micro_batch: int
    peer: int

    @property
    def key(self) -> tuple[Cargo, int, int]:
        """The same on both ends: what is carried, over which cut, for which micro-batch."""
        return self.cargo, self.cut, self.micro_batch

    def __str__(self) -> str:
        arrow = ">" if self.op is Op.SEND else "<"
        what = f"{self.cargo.value}{self.cut} m{self.micro_batch}"
        return f"{self.op.value} {what} {arrow} w{self.peer}"


@dataclass(frozen=True, slots=True)
class Share:
    """The micro-batches whose gradients ``worker`` brings to a REDUCE; written ``w2:4-7``."""

    worker: int
    micro_batches: tuple[int, ...]

    def __str__(self) -> str:
        return f"w{self.worker}:{format_ids(self.micro_batches)}"


@dataclass(frozen=True, slots=True)
class Reduce:
    """Sum the gradients of ``layers`` over all micro-batches, in the fixed tree, for every holder.

    Written ``REDUCE 0:3 w0:0-3 w2:4-7``. Collective: every worker in ``shares`` has the same
    action. A worker with an empty share brings nothing and receives the sum.
    """

    layers: Span
    shares: tuple[Share, ...]

    def __str__(self) -> str:
        return " ".join([f"REDUCE {self.layers}", *map(str, self.shares)])


@dataclass(frozen=True, slots=True)
class Spread:
    """``source`` gives the reduced gradient of ``layers`` to holders that do not have it yet.

    Written ``SPREAD 0:3 w0 > w2,w4``. Collective over all of them. Only in what is left of a step
    after a failure: somebody had ended the REDUCE, others had not.
    """

    layers: Span
    source: int
    targets: tuple[int, ...]

    @property
    def workers(self) -> tuple[int, ...]:
        """Everybody who takes part, ascending."""
        return tuple(sorted({self.source, *self.targets}))

    def __str__(self) -> str:
        targets = ",".join(f"w{worker}" for worker in self.targets)
        return f"SPREAD {self.layers} w{self.source} > {targets}"


@dataclass(frozen=True, slots=True)
class Tie:
    """Exchange the reduced gradients of weights that two layers share, and add them.

    Written ``TIE 0~5 w0,w2 ~ w1,w3``: holders of the lower layer, then of the upper one, each
    ascending. Collective over both. Each end that lacks the other's gradient receives it, and
    both compute lower + upper.
    """

    lower: int
    upper: int
    lower_holders: tuple[int, ...]
    upper_holders: tuple[int, ...]

    @property
    def workers(self) -> tuple[int, ...]:
        """Everybody who takes part, ascending."""
        return tuple(sorted({*self.lower_holders, *self.upper_holders}))

    def __str__(self) -> str:
        lower = ",".join(f"w{worker}" for worker in self.lower_holders)
        upper = ",".join(f"w{worker}" for worker in self.upper_holders)
        return f"TIE {self.lower}~{self.upper} {lower} ~ {upper}"


@dataclass(frozen=True, slots=True)
class Replay:
    """``target`` computes again what ``source`` has computed, and both compare.

    F and B of ``micro_batch`` on ``layers``, from the source's inputs. Written
    ``REPLAY 0:3 m2 w0 > w2``. Collective over both; behind the reductions, before the commit.
    """

    layers: Span
    micro_batch: int
    source: int
    target: int

    @property
    def workers(self) -> tuple[int, ...]:
        """Both, ascending."""
        return tuple(sorted((self.source, self.target)))

    def __str__(self) -> str:
        return f"REPLAY {self.layers} m{self.micro_batch} w{self.source} > w{self.target}"


@dataclass(frozen=True, slots=True)
class Commit:
    """Exchange votes, losses and norms with every worker of the plan; all yes or nothing."""

    def __str__(self) -> str:
        return "COMMIT"


@dataclass(frozen=True, slots=True)
class Step:
    """The optimizer step of ``layers``; only behind a commit. Written ``STEP 0:3``."""

    layers: Span

    def __str__(self) -> str:
        return f"STEP {self.layers}"


Action = Compute | Transfer | Reduce | Spread | Tie | Replay | Commit | Step


@dataclass(frozen=True, slots=True)
class Program:
    """One worker's actions of one step, in order.

    Attributes:
        worker: whose program it is.
        generation: of the plan it was made from.
        num_layers: of the workload.
        num_micro_batches: logical micro-batches of the step, over all workers.
        actions: in the order in which the worker starts them.
    """

    worker: int
    generation: int
    num_layers: int
    num_micro_batches: int
    actions: tuple[Action, ...]

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __str__(self) -> str:
        head = (
            f"program worker={self.worker} generation={self.generation} "
            f"layers={self.num_layers} micro_batches={self.num_micro_batches}"
        )
        return "\n".join([head, *map(str, self.actions)]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Program:
        """The program that ``str`` wrote; ``ValueError`` names the line that is wrong."""
        lines = [line.split() for line in text.splitlines()]
        if not lines or lines[0][:1] != ["program"]:
            raise ValueError("a program starts with: program worker=N generation=N layers=N ...")
        try:
            head = {key: int(value) for key, value in (word.split("=") for word in lines[0][1:])}
            worker, generation = head.pop("worker"), head.pop("generation")
            layers, micro_batches = head.pop("layers"), head.pop("micro_batches")
        except (ValueError, KeyError) as error:
            raise ValueError(f"line 1 of the program: {error}") from error
        if head:
            raise ValueError(f"line 1 of the program: unknown {', '.join(head)}")
        actions = []
        for number, words in enumerate(lines[1:], 2):
            if not words:
                continue
            try:
                actions.append(parse_action(words))
            except ValueError as error:
                line = " ".join(words)
                raise ValueError(f"line {number} of the program, {line!r}: {error}") from error
        return cls(worker, generation, layers, micro_batches, tuple(actions))


def parse_action(words: list[str]) -> Action:
    """The action written as ``words``; ``ValueError`` says what it should have looked like."""
    match words:
        case ["F" | "B" | "I" | "W" as op, layers, micro_batch]:
            return Compute(Op(op), Span.parse(layers), _number(micro_batch, "m"))
        case ["SEND", cargo, micro_batch, ">", peer]:
            return _transfer(Op.SEND, cargo, micro_batch, peer)
        case ["RECV", cargo, micro_batch, "<", peer]:
            return _transfer(Op.RECV, cargo, micro_batch, peer)
        case ["REDUCE", layers, *shares] if shares:
            return Reduce(Span.parse(layers), tuple(map(_share, shares)))
        case ["SPREAD", layers, source, ">", targets]:
            return Spread(Span.parse(layers), _number(source, "w"), _workers(targets))
        case ["TIE", pair, lower, "~", upper]:
            low, _, high = pair.partition("~")
            return Tie(_number(low, ""), _number(high, ""), _workers(lower), _workers(upper))
        case ["REPLAY", layers, micro_batch, source, ">", target]:
            span, number = Span.parse(layers), _number(micro_batch, "m")
            return Replay(span, number, _number(source, "w"), _number(target, "w"))
        case ["COMMIT"]:
            return Commit()
        case ["STEP", layers]:
            return Step(Span.parse(layers))
    raise ValueError(
        f"no action is written like this; known are {', '.join(op.value for op in Op)}"
    )


def _transfer(op: Op, cargo: str, micro_batch: str, peer: str) -> Transfer:
    kind = Cargo(cargo[:1])
    return Transfer(
        op, kind, _number(cargo, kind.value), _number(micro_batch, "m"), _number(peer, "w")
    )


def _share(text: str) -> Share:
    worker, _, ids = text.partition(":")
    return Share(_number(worker, "w"), parse_ids(ids))


def _workers(text: str) -> tuple[int, ...]:
    return tuple(_number(word, "w") for word in text.split(","))


def _number(text: str, prefix: str) -> int:
    digits = text.removeprefix(prefix)
    if not text.startswith(prefix) or not digits.isdecimal():
        raise ValueError(f"expected {prefix}N, not {text!r}")
    return int(digits)
