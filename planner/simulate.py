"""A step played on a Profile: the engine's rules, event by event, without the work.

The rules are those of the engine. A RECV posts its receive, and receives are posted up to
``receives_ahead`` RECVs before the program gets to them. A SEND starts a transfer that nobody waits
for but the compute that needs it. A transfer begins when both ends are posted and the sender's link
is free, in the order in which they become ready. REDUCE, TIE and COMMIT begin when all that take
part are there, and end for all at once. Everything is deterministic; no clock is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from ithaca.planner.costs import Costs
from ithaca.planner.memory import peak_bytes
from ithaca.planner.profile import Profile
from ithaca.planner.program import (
    Action,
    Cargo,
    Compute,
    Op,
    Program,
    Step,
    Transfer,
)

RECEIVES_AHEAD = 4
"""How many RECVs the engine posts before their turn."""

Tensor = tuple[int, str, int, int]
"""A tensor on its way: the worker it goes to, what it is, its cut, its micro-batch."""


@dataclass(frozen=True, slots=True)
class Timed:
    """``action`` occupied its worker from ``start_s`` to ``end_s``, in seconds from the start.

    For a compute the time before ``start_s``, behind the action before it, was spent waiting for
    input; for a collective the wait for the others lies before ``start_s`` too.
    """

    action: Action
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a step looked like.

    Attributes:
        step_s: seconds until the last worker is done.
        rows: per worker, its actions in program order with their times.
        peak_bytes: per worker, the most memory it holds at once; see ``planner.memory``.
    """

    step_s: float
    rows: Mapping[int, tuple[Timed, ...]]
    peak_bytes: Mapping[int, int]

    def busy_s(self, worker: int) -> float:
        """Seconds in which ``worker`` computes (F, B, I, W, STEP)."""
        return sum(
            timed.end_s - timed.start_s
            for timed in self.rows[worker]
            if isinstance(timed.action, Compute | Step)
        )

    @property
    def bubble(self) -> float:
        """Part of all workers' time, 0 to 1, in which they do not compute."""
        total = self.step_s * len(self.rows)
        return 1 - sum(map(self.busy_s, self.rows)) / total if total else 0.0


def simulate(
    programs: Mapping[int, Program],
    profile: Profile,
    *,
    exact: bool = True,
    receives_ahead: int = RECEIVES_AHEAD,
    message_s: float = 0.0,
) -> Timeline:
    """Play ``programs``, by worker id, on ``profile``.

    Args:
        programs: of all workers; valid ones (``planner.validate``).
        profile: with one entry per layer of the programs.
        exact: gradients are summed in the fixed tree; otherwise by a plain ring all-reduce.
        receives_ahead: RECVs posted before their turn; 0 posts each in its turn.
        message_s: seconds that a message keeps each of its two ends from computing, for transports
            that do not run beside the compute: the sender in its SEND, before the message leaves;
            the receiver when it has come, as part of the compute that needs it.

    Raises:
        ValueError: the profile does not fit, or workers wait for each other for ever.
    """
    costs = Costs(profile, programs, exact=exact)
    run = _Run(programs, profile, costs, receives_ahead, message_s)
    run.play()
    done = {worker: tuple(lane.done) for worker, lane in run.lanes.items()}
    step_s = max((timed[-1].end_s for timed in done.values() if timed), default=0.0)
    peaks = {w: peak_bytes(program, profile, exact=exact) for w, program in programs.items()}
    return Timeline(step_s, done, peaks)


class _Lane:
    """One worker: how far it is, its clock, and which receives are posted."""

    def __init__(self, program: Program) -> None:
        self.actions = program.actions
        self.next = 0
        self.now = 0.0
        self.done: list[Timed] = []
        self.receives = [
            action
            for action in program.actions
            if isinstance(action, Transfer) and action.op is Op.RECV
        ]
        self.posted = 0
        self.reached = 0  # RECVs the program has come to
        self.remote = {_tensor(program.worker, a) for a in self.receives}


class _Run:
    def __init__(
        self,
        programs: Mapping[int, Program],
        profile: Profile,
        costs: Costs,
        receives_ahead: int,
        message_s: float,
    ) -> None:
        self.lanes = {worker: _Lane(program) for worker, program in programs.items()}
        self._costs = costs
        self._profile = profile
        self._ahead = receives_ahead
        self._message_s = message_s
        self._events: list[tuple[float, int, int | Tensor]] = []  # a worker goes on, or a transfer
        self._count = 0
        self._posts: dict[Tensor, float] = {}  # when the first of both ends was posted
        self._sender: dict[Tensor, int] = {}
        self._free: dict[int, float] = dict.fromkeys(programs, 0.0)
        self._arrival: dict[Tensor, float] = {}
        self._waiting: dict[Tensor, int] = {}
        self._gathered: dict[Action, dict[int, float]] = {}

    def play(self) -> None:
        for worker in sorted(self.lanes):
            self._post_receives(worker)
            self._push(0.0, worker)
        while self._events:
            now, _, what = heapq.heappop(self._events)
            if isinstance(what, int):
                self._advance(what)
            else:
                self._move(what, now)
        stuck = [w for w, lane in self.lanes.items() if lane.next < len(lane.actions)]
        if stuck:
            where = {w: str(self.lanes[w].actions[self.lanes[w].next]) for w in stuck}
            raise ValueError(f"these programs do not end, workers wait at {where}; validate them")

    def _push(self, time: float, what: int | Tensor) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, what))

    def _advance(self, worker: int) -> None:
        """Let ``worker`` go on until it has to wait."""
        lane = self.lanes[worker]
        while lane.next < len(lane.actions):
            action = lane.actions[lane.next]
            seconds = 0.0
            match action:
                case Transfer(op=Op.SEND):
                    seconds = self._message_s
                case Transfer():
                    self.lanes[worker].reached += 1
                    self._post_receives(worker)
                case Compute():
                    if (tensor := self._input(worker, action)) is not None:
                        if not self._has_come(worker, tensor):
                            return
                        seconds = self._message_s
                case Step():
                    pass
                case _:
                    self._gather(worker, action)
                    return
            self._finish(worker, lane.now, seconds + self._costs.seconds(worker, action))
            if isinstance(action, Transfer) and action.op is Op.SEND:
                sent = _tensor(action.peer, action)
                self._sender[sent] = worker
                self._meet(sent, lane.now)

    def _finish(self, worker: int, start: float, seconds: float) -> None:
        lane = self.lanes[worker]
        lane.now = start + seconds
        lane.done.append(Timed(lane.actions[lane.next], start, lane.now))
        lane.next += 1

    def _post_receives(self, worker: int) -> None:
        lane = self.lanes[worker]
        until = min(lane.reached + self._ahead, len(lane.receives))
        for action in lane.receives[lane.posted : until]:
            self._meet(_tensor(worker, action), lane.now)
        lane.posted = max(lane.posted, until)

    def _meet(self, tensor: Tensor, now: float) -> None:
        """One end of a transfer is posted; if it is the second one, it is ready."""
        if (other := self._posts.pop(tensor, None)) is not None:
            self._push(max(now, other), tensor)
        else:
            self._posts[tensor] = now

    def _move(self, tensor: Tensor, now: float) -> None:
        """Send ``tensor`` as soon as its sender's link is free."""
        sender = self._sender[tensor]
        size = self._profile.layers[tensor[2] - 1].output_bytes
        end = max(now, self._free[sender]) + self._profile.link.seconds(size)
        self._free[sender] = self._arrival[tensor] = end
        if tensor in self._waiting:
            self._push(end, self._waiting.pop(tensor))

    def _input(self, worker: int, action: Compute) -> Tensor | None:
        """The tensor from another worker that ``action`` needs, if any."""
        if action.op is Op.W:
            return None
        if action.op is Op.F:
            cargo, cut = Cargo.ACTIVATION, action.layers.first
        else:
            cargo, cut = Cargo.GRADIENT, action.layers.last
        tensor = (worker, cargo.value, cut, action.micro_batch)
        return tensor if tensor in self.lanes[worker].remote else None

    def _has_come(self, worker: int, tensor: Tensor) -> bool:
        """Whether it is known when ``tensor`` comes; sets the clock to then, or waits to know."""
        if tensor not in self._arrival:
            self._waiting[tensor] = worker
            return False
        lane = self.lanes[worker]
        lane.now = max(lane.now, self._arrival[tensor])
        return True

    def _gather(self, worker: int, action: Action) -> None:
        """A collective: the last one to come lets all go on."""
        there = self._gathered.setdefault(action, {})
        there[worker] = self.lanes[worker].now
        members = self._costs.members(action)
        if len(there) < len(members):
            return
        start = max(there.values())
        seconds = self._costs.seconds(worker, action)
        for member in members:
            self._finish(member, start, seconds)
            self._push(start + seconds, member)
        del self._gathered[action]


def _tensor(receiver: int, action: Transfer) -> Tensor:
    return (receiver, action.cargo.value, action.cut, action.micro_batch)
