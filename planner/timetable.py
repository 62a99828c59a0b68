"""The list scheduler behind every schedule: who computes what when, on a virtual clock.

One pass over a global clock starts, on each idle worker, the ready compute with the highest
priority that the schedule's limit on micro-batches in flight allows, and notes computes when they
start and messages when they are sent. What comes out is *one* linear order of all computes and
messages; a worker's part of it is the projection on that worker. Executed in that order nothing
ever waits, so it cannot deadlock, not even when every SEND blocks until its RECV is reached.

The rule is that of 1F1B (PipeDream-Flush, arXiv 2006.09503): forward and backward in turn as far
as they are ready, and stage k of S has at most S - k micro-batches between F and B. With the
backward split (Zero Bubble H1, arXiv 2401.10241) the same holds between F and I, W runs only when
neither I nor F may, and at most S micro-batches are between F and W: no stage holds more than the
first one holds in 1F1B. GPipe (arXiv 1811.06965) has no limit, and a worker starts its backwards
behind all its forwards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.program import Action, Cargo, Compute, Op, Transfer
from ithaca.planner.span import Span

Routes = dict[int, list[Route]]
"""Detours by micro-batch."""


class Need(Enum):
    """What of a part is still to be done."""

    ALL = "all"
    """F, and B or I and W: nothing was done, or what was done is lost."""
    BACKWARD = "backward"
    """F is done, and what it saved is held."""
    WEIGHTS = "weights"
    """I is done too; W is owed."""
    FORWARD = "forward"
    """F only, for its output: the gradients are there already."""
    NOTHING = "nothing"


@dataclass(slots=True, eq=False)
class Part:
    """One stage of one micro-batch: the unit that the schedule orders.

    In a whole step every part needs everything. In what is left of a step after a failure some
    need less, and inputs may be held somewhere already.

    Attributes:
        turn: position of the micro-batch in its pipeline.
        depth: position of the stage in its pipeline, of ``stages``.
        split: whether its backward is I and W.
        above, below: the parts of the next and the previous stage.
        need: what is still to be done.
        activation_at: who holds the input already; None if the part below brings it.
        gradient_at: who holds the gradient of the output already; None if the part above does.
    """

    micro_batch: int
    layers: Span
    worker: int
    turn: int
    depth: int
    stages: int
    split: bool
    above: Part | None = None
    below: Part | None = None
    need: Need = Need.ALL
    activation_at: int | None = None
    gradient_at: int | None = None
    forward_done: bool = False
    gradient_here: bool = False

    @property
    def needs_forward(self) -> bool:
        """Whether its F is to be done."""
        return self.need in (Need.ALL, Need.FORWARD)

    @property
    def needs_gradient(self) -> bool:
        """Whether its B or I is to be done."""
        return self.need in (Need.ALL, Need.BACKWARD)


SLOTS = {Op.F: 1, Op.B: 2, Op.I: 1, Op.W: 1}
"""Time on the virtual clock, the same for every stage.

So the order is the textbook's, whatever a stage really takes. Measured times were tried: in
simulated uneven pipelines they gain 0.1 % on average when links are free, and lose up to a third
when links, which the clock does not know, are slow. Times by number of layers lose more.
"""


@dataclass(slots=True)
class _Lane:
    """The state of one worker: what is ready on it, and how much it has in flight.

    ``ahead`` counts micro-batches between F and B or I and is kept below ``limit``; ``held``
    counts those between F and B or W, whose activations are in memory, and stays below ``room``.
    ``turned`` says that the last choice was a backward, so that a forward is due.
    """

    worker: int
    limit: float = 0
    room: float = 0
    ahead: int = 0
    held: int = 0
    forwards_left: int = 0
    idle: bool = True
    turned: bool = False
    gated: bool = False
    forwards: list[tuple[int, int, int, Part]] = field(default_factory=list)
    backwards: list[tuple[int, int, int, Part]] = field(default_factory=list)
    weights: list[tuple[int, int, int, Part]] = field(default_factory=list)

    def pick(self) -> tuple[Op, Part] | None:
        """The compute to start now, or None if nothing is both ready and allowed."""
        forward = bool(self.forwards) and self.ahead < self.limit and self.held < self.room
        blocked = (self.forwards_left > 0) if self.gated else (forward and self.turned)
        if self.backwards and not blocked:
            self.turned = True
            part = heapq.heappop(self.backwards)[-1]
            return (Op.I if part.split else Op.B), part
        if forward:
            self.turned = False
            return Op.F, heapq.heappop(self.forwards)[-1]
        if self.weights:
            return Op.W, heapq.heappop(self.weights)[-1]
        return None


class Timetable:
    """The order of all computes and messages of one step.

    Attributes:
        actions: per worker, its computes and transfers in order.
        finish: per worker, when its last compute ends on the virtual clock (0 if it has none).
    """

    def __init__(
        self,
        workers: Iterable[int],
        parts: Sequence[Part],
        schedule: Schedule,
        *,
        backward: bool = True,
    ) -> None:
        self.actions: dict[int, list[Action]] = {worker: [] for worker in workers}
        self.finish: dict[int, int] = dict.fromkeys(self.actions, 0)
        self._backward = backward
        self._lanes = {worker: _Lane(worker) for worker in self.actions}
        self._running: list[tuple[int, int, Op, Part]] = []
        self._touched: dict[int, None] = {}
        unlimited = schedule is Schedule.GPIPE or not backward
        for part in parts:
            lane = self._lanes[part.worker]
            lane.forwards_left += part.needs_forward
            lane.ahead += part.need is Need.BACKWARD
            lane.held += part.need in (Need.BACKWARD, Need.WEIGHTS)
            lane.gated = schedule is Schedule.GPIPE
            lane.limit = max(lane.limit, inf if unlimited else part.stages - part.depth)
            lane.room = max(lane.room, inf if unlimited else part.stages)
        for part in parts:
            self._open(part)
        self._run()

    def _open(self, part: Part) -> None:
        """Make ready what depends on no other part."""
        part.forward_done = not part.needs_forward
        part.gradient_here = part.above is None or part.gradient_at is not None
        if part.needs_forward and (part.below is None or part.activation_at is not None):
            self._ready(Op.F, part)
        elif part.need is Need.WEIGHTS:
            self._ready(Op.W, part)
        self._ready_backward(part)

    def _ready_backward(self, part: Part) -> None:
        if self._backward and part.needs_gradient and part.forward_done and part.gradient_here:
            self._ready(Op.B, part)

    def _run(self) -> None:
        now = 0
        while True:
            for worker in sorted(self._touched):
                lane = self._lanes[worker]
                task = lane.pick() if lane.idle else None
                if task:
                    self._start(lane, *task, now)
            self._touched.clear()
            if not self._running and not self._force(now):
                return
            now = self._running[0][0]
            while self._running and self._running[0][0] == now:
                _, worker, op, part = heapq.heappop(self._running)
                self._lanes[worker].idle = True
                self._touched[worker] = None
                self._done(op, part, now)

    def _force(self, now: int) -> bool:
        """Start the first waiting forward in spite of its worker's limit.

        Only detours can bring this about: with them two workers may each be full of micro-batches
        that must still pass the other one.
        """
        waiting = [lane for lane in self._lanes.values() if lane.forwards]
        if not waiting:
            return False
        lane = min(waiting, key=lambda lane: lane.forwards[0][:3])
        self._start(lane, Op.F, heapq.heappop(lane.forwards)[-1], now)
        return True

    def _start(self, lane: _Lane, op: Op, part: Part, now: int) -> None:
        lane.idle = False
        if op is Op.F:
            lane.ahead += part.needs_gradient
            lane.held += part.needs_gradient
            lane.forwards_left -= 1
            self._fetch(Cargo.ACTIVATION, part.layers.first, part, part.activation_at)
        else:
            lane.ahead -= op is not Op.W
            lane.held -= op is not Op.I
            if op is not Op.W:
                self._fetch(Cargo.GRADIENT, part.layers.last, part, part.gradient_at)
        self.actions[lane.worker].append(Compute(op, part.layers, part.micro_batch))
        end = now + SLOTS[op]
        heapq.heappush(self._running, (end, lane.worker, op, part))

    def _done(self, op: Op, part: Part, now: int) -> None:
        self.finish[part.worker] = now
        if op is Op.F:
            part.forward_done = True
            above = part.above
            if above and above.needs_forward and above.activation_at is None:
                self._hand(Cargo.ACTIVATION, part.layers.last, part, part.worker, above.worker)
                self._ready(Op.F, above)
            self._ready_backward(part)
        elif op is not Op.W:
            if part.split:
                self._ready(Op.W, part)
            below = part.below
            if below and below.needs_gradient and below.gradient_at is None:
                if below.forward_done:
                    self._hand(Cargo.GRADIENT, part.layers.first, part, part.worker, below.worker)
                else:  # only who has done the forward knows what will come: fetched later
                    below.gradient_at = part.worker
                below.gradient_here = True
                self._ready_backward(below)

    def _fetch(self, cargo: Cargo, cut: int, part: Part, holder: int | None) -> None:
        """Let ``holder``, who has it from before, send what ``part`` is about to use."""
        if holder is not None:
            self._hand(cargo, cut, part, holder, part.worker)

    def _hand(self, cargo: Cargo, cut: int, part: Part, source: int, target: int) -> None:
        if source != target:
            what = (cargo, cut, part.micro_batch)
            self.actions[source].append(Transfer(Op.SEND, *what, target))
            self.actions[target].append(Transfer(Op.RECV, *what, source))

    def _ready(self, op: Op, part: Part) -> None:
        lane = self._lanes[part.worker]
        heap = {Op.F: lane.forwards, Op.B: lane.backwards, Op.W: lane.weights}[op]
        heapq.heappush(heap, (part.turn, part.micro_batch, -part.layers.first, part))
        self._touched[part.worker] = None


def parts_of(pipelines: Sequence[Pipeline], routes: Routes, split: Sequence[bool]) -> list[Part]:
    """Every stage of every micro-batch, chained; ``split`` says per layer if its B can split.

    A stage with routes for a part of its layers is cut where they begin and end.
    """
    parts = []
    for pipeline in pipelines:
        for turn, micro_batch in enumerate(pipeline.micro_batches):
            below: Part | None = None
            for depth, stage in enumerate(pipeline.stages):
                for layers, worker in pieces_of(stage, routes.get(micro_batch, ())):
                    part = Part(
                        micro_batch,
                        layers,
                        worker,
                        turn,
                        depth,
                        len(pipeline.stages),
                        all(split[layer] for layer in layers),
                        below=below,
                    )
                    if below:
                        below.above = part
                    parts.append(part)
                    below = part
    return parts


def pieces_of(stage: Stage, routes: Iterable[Route]) -> list[tuple[Span, int]]:
    """The layers of ``stage`` with who computes them, for the micro-batch of ``routes``."""
    found, first = [], stage.layers.first
    for route in sorted(routes, key=lambda route: route.layers):
        if route.layers.first in stage.layers:
            if first < route.layers.first:
                found.append((Span(first, route.layers.first), stage.worker))
            found.append((route.layers, route.worker))
            first = route.layers.last
    if first < stage.layers.last:
        found.append((Span(first, stage.layers.last), stage.worker))
    return found


def routes_of(plan: Plan) -> Routes:
    """The plan's detours by micro-batch."""
    found: Routes = {}
    for route in plan.routes:
        found.setdefault(route.micro_batch, []).append(route)
    return found
