"""What a single Program says about its own worker, checked action by action.

:func:`walk` follows one Program and proves what can be proved without the others: inputs are there
when they are used, each is used once, every forward has its backward, and REDUCE, TIE, COMMIT and
STEP stand where they may. The facts it returns are what :mod:`ithaca.planner.validate` compares
between workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ithaca.planner.program import (
    Action,
    Cargo,
    Commit,
    Compute,
    Op,
    Program,
    Reduce,
    Replay,
    Spread,
    Step,
    Tie,
    Transfer,
)
from ithaca.planner.span import Span, format_ids

Token = tuple[str, int, int]
"""A tensor: a or g (strings hash faster than enums), the cut it belongs to, its micro-batch."""

_ACTIVATION, _GRADIENT = Cargo.ACTIVATION.value, Cargo.GRADIENT.value


class ProgramError(ValueError):
    """A set of Programs that must not be run; the message names worker, line and action.

    Attributes:
        worker: whose Program is wrong; None if no single one is.
        line: line of its text form, the header being line 1; None if the fault is no single line.
    """

    def __init__(self, message: str, worker: int | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker
        self.line = line

    def __reduce__(self) -> tuple[type[ProgramError], tuple[str, int | None, int | None]]:
        return type(self), (str(self), self.worker, self.line)


def refuse(program: Program, index: int, reason: str) -> ProgramError:
    """The error for action ``index`` of ``program``."""
    line = index + 2
    what = f"worker {program.worker}, line {line} {str(program.actions[index])!r}: {reason}"
    return ProgramError(what, program.worker, line)


@dataclass(slots=True)
class Facts:
    """What one Program does; every value is the index of the action that does it.

    Attributes:
        forwards: (layer, micro-batch) to its F.
        sends, receives: (tensor, peer) to the transfer.
        reduced, stepped: layer to its REDUCE and STEP.
        collectives: every REDUCE, TIE and COMMIT.
    """

    forwards: dict[tuple[int, int], int] = field(default_factory=dict)
    sends: dict[tuple[Token, int], int] = field(default_factory=dict)
    receives: dict[tuple[Token, int], int] = field(default_factory=dict)
    reduced: dict[int, int] = field(default_factory=dict)
    stepped: dict[int, int] = field(default_factory=dict)
    collectives: dict[Action, int] = field(default_factory=dict)


def walk(program: Program, workers: Mapping[int, object], *, forward_only: bool) -> Facts:
    """The facts of ``program``; ``workers`` are all that take part.

    Raises:
        ProgramError: the Program is wrong in itself.
    """
    walker = _Walker(program, workers, forward_only)
    for index, action in enumerate(program.actions):
        walker.visit(index, action)
    walker.finish()
    return walker.facts


class _Walker:
    def __init__(self, program: Program, workers: Mapping[int, object], forward_only: bool) -> None:
        self.facts = Facts()
        self._program = program
        self._workers = workers
        self._forward_only = forward_only
        self._committed = False
        self._present: dict[Token, int] = {}  # tensors here and not yet used
        self._made: set[Token] = set()  # tensors computed here
        self._seen: set[Token] = set()  # tensors that ever were here
        self._open: dict[tuple[Span, int], int] = {}  # F without B, I
        self._owed: dict[tuple[Span, int], int] = {}  # I without W
        self._done: dict[int, set[int]] = {}  # layer -> micro-batches with a weight gradient

    def visit(self, index: int, action: Action) -> None:
        """Follow the action at ``index``."""
        if self._committed and not isinstance(action, Step):
            raise self._refuse(index, "only STEP may follow COMMIT")
        if self._forward_only and not self._is_forward(action):
            raise self._refuse(index, "a forward-only program has F, transfers of a, and COMMIT")
        match action:
            case Compute():
                self._compute(index, action)
            case Transfer():
                self._transfer(index, action)
            case Reduce():
                self._reduce(index, action)
            case Spread():
                raise self._refuse(index, "SPREAD belongs in what is left of a step only")
            case Replay():
                self._replay(index, action)
            case Tie():
                self._tie(index, action)
            case Commit():
                self._committed = True
                self._collective(index, action)
            case Step():
                self._step(index, action)

    def finish(self) -> None:
        """Check that nothing was left undone."""
        for index in self._present.values():
            raise self._refuse(index, "what it yields is neither used here nor sent on")
        for index in [] if self._forward_only else self._open.values():
            raise self._refuse(index, "this forward has no backward behind it")
        for index in self._owed.values():
            raise self._refuse(index, "this I has no W behind it")
        worker = self._program.worker
        if not self._committed:
            raise ProgramError(f"worker {worker}: the program has no COMMIT", worker)
        for layer in self._done:
            if layer not in self.facts.reduced:
                raise ProgramError(f"worker {worker} computes layer {layer}, unreduced", worker)
        for layer, index in self.facts.reduced.items():
            if layer not in self.facts.stepped:
                raise self._refuse(index, f"layer {layer} is reduced here but has no STEP")

    def _refuse(self, index: int, reason: str) -> ProgramError:
        return refuse(self._program, index, reason)

    def _is_forward(self, action: Action) -> bool:
        if isinstance(action, Compute):
            return action.op is Op.F
        if isinstance(action, Transfer):
            return action.cargo is Cargo.ACTIVATION
        return isinstance(action, Commit)

    def _compute(self, index: int, action: Compute) -> None:
        span, micro_batch = action.layers, action.micro_batch
        self._check_range(index, span, micro_batch)
        key = (span, micro_batch)
        if action.op is Op.F:
            self._forward(index, span, micro_batch)
        elif action.op is Op.W:
            if self._owed.pop(key, None) is None:
                raise self._refuse(index, "there is no I of the same layers before it")
        else:
            if self._open.pop(key, None) is None:
                raise self._refuse(index, "there is no F of the same layers without B or I before")
            self._take(index, (_GRADIENT, span.last, micro_batch))
            if span.first:
                self._put(index, (_GRADIENT, span.first, micro_batch), made=True)
        if action.op is Op.I:
            self._owed[key] = index
        if action.op in (Op.B, Op.W):
            for layer in span:
                self._done.setdefault(layer, set()).add(micro_batch)
        for layer in span:
            if layer in self.facts.reduced:
                raise self._refuse(index, f"layer {layer} has been reduced before")

    def _forward(self, index: int, span: Span, micro_batch: int) -> None:
        for layer in span:
            if (layer, micro_batch) in self.facts.forwards:
                raise self._refuse(index, f"layer {layer} has had its F of m{micro_batch}")
            self.facts.forwards[layer, micro_batch] = index
        self._open[span, micro_batch] = index
        if span.first:
            self._take(index, (_ACTIVATION, span.first, micro_batch))
        if span.last < self._program.num_layers:
            self._put(index, (_ACTIVATION, span.last, micro_batch), made=True)
        elif not self._forward_only:  # the loss: its gradient starts here
            self._put(index, (_GRADIENT, span.last, micro_batch), made=True)

    def _transfer(self, index: int, action: Transfer) -> None:
        token = (action.cargo.value, action.cut, action.micro_batch)
        if not 0 < action.cut < self._program.num_layers:
            raise self._refuse(index, f"cuts are 1 to {self._program.num_layers - 1}")
        self._check_range(index, None, action.micro_batch)
        if action.peer == self._program.worker or action.peer not in self._workers:
            raise self._refuse(index, f"worker {action.peer} is not another worker of this step")
        if action.op is Op.RECV:
            self._put(index, token, made=False)
            self.facts.receives[token, action.peer] = index
        else:
            if token not in self._made:
                raise self._refuse(index, "it has not been computed here before")
            self._take(index, token)
            self.facts.sends[token, action.peer] = index

    def _put(self, index: int, token: Token, *, made: bool) -> None:
        if token in self._seen:
            raise self._refuse(index, f"{_name(token)} is received or computed here twice")
        self._seen.add(token)
        self._present[token] = index
        if made:
            self._made.add(token)

    def _take(self, index: int, token: Token) -> None:
        if self._present.pop(token, None) is None:
            state = "has been used already" if token in self._seen else "is not here yet"
            raise self._refuse(index, f"its input {_name(token)} {state}")

    def _check_range(self, index: int, span: Span | None, micro_batch: int) -> None:
        layers, micro_batches = self._program.num_layers, self._program.num_micro_batches
        if span and span.last > layers:
            raise self._refuse(index, f"the workload has layers 0 to {layers - 1}")
        if not 0 <= micro_batch < micro_batches:
            raise self._refuse(index, f"micro-batches are 0 to {micro_batches - 1}")

    def _collective(self, index: int, action: Action) -> None:
        if action in self.facts.collectives:
            raise self._refuse(index, "it is in this program twice")
        self.facts.collectives[action] = index

    def _reduce(self, index: int, action: Reduce) -> None:
        self._check_range(index, action.layers, 0)
        self._collective(index, action)
        shares = {share.worker: share.micro_batches for share in action.shares}
        if [share.worker for share in action.shares] != sorted(shares):
            raise self._refuse(index, "shares name each worker once, ascending")
        if self._program.worker not in shares or not all(w in self._workers for w in shares):
            raise self._refuse(index, f"shares name this worker and others of {[*self._workers]}")
        brought = sorted(mb for share in shares.values() for mb in share)
        if brought != list(range(self._program.num_micro_batches)):
            raise self._refuse(
                index,
                f"shares must cover 0-{self._program.num_micro_batches - 1} once, "
                f"not {format_ids(brought)}",
            )
        own = set(shares[self._program.worker])
        for layer in action.layers:
            if layer in self.facts.reduced:
                raise self._refuse(index, f"layer {layer} has been reduced before")
            self.facts.reduced[layer] = index
            if self._done.get(layer, set()) != own:
                done = format_ids(self._done.get(layer, ()))
                raise self._refuse(index, f"gradients of layer {layer} computed here: {done}")

    def _tie(self, index: int, action: Tie) -> None:
        self._collective(index, action)
        worker = self._program.worker
        if not 0 <= action.lower < action.upper < self._program.num_layers:
            raise self._refuse(index, "a tie names two layers of the workload, the lower first")
        if worker not in action.workers or not all(w in self._workers for w in action.workers):
            raise self._refuse(index, "a tie names this worker and others of this step")
        ends = ((action.lower, action.lower_holders), (action.upper, action.upper_holders))
        for layer, holders in ends:
            if list(holders) != sorted(set(holders)):
                raise self._refuse(index, "holders are named once each, ascending")
            if (worker in holders) != (layer in self.facts.reduced):
                raise self._refuse(index, f"who is named for layer {layer} has reduced it before")

    def _replay(self, index: int, action: Replay) -> None:
        self._check_range(index, action.layers, action.micro_batch)
        self._collective(index, action)
        worker = self._program.worker
        if worker not in action.workers or action.source == action.target:
            raise self._refuse(index, "a replay names this worker and another one")
        if not all(w in self._workers for w in action.workers):
            raise self._refuse(index, f"it names others than {[*self._workers]}")
        for layer in action.layers:
            if layer not in self.facts.reduced:
                raise self._refuse(index, f"layer {layer} is not held and reduced here before")
            if worker == action.source and action.micro_batch not in self._done.get(layer, ()):
                raise self._refuse(index, f"layer {layer} of m{action.micro_batch} is not of here")

    def _step(self, index: int, action: Step) -> None:
        if not self._committed:
            raise self._refuse(index, "STEP stands behind COMMIT")
        for layer in action.layers:
            if layer not in self.facts.reduced:
                raise self._refuse(index, f"layer {layer} has not been reduced here")
            if layer in self.facts.stepped:
                raise self._refuse(index, f"layer {layer} is stepped twice")
            self.facts.stepped[layer] = index


def _name(token: Token) -> str:
    cargo, cut, micro_batch = token
    return f"{cargo}{cut} m{micro_batch}"
