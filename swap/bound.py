"""No schedule can be faster than this: a linear programme for the step time under a budget.

Storages may be split: a part is kept, a part swapped, a part computed again. Copies are fluid:
what is written out frees its bytes byte by byte, and what is read takes them so. Everything else
is as in the model: the live bytes at every operator, the cumulative bytes over each link and
direction by the time of every operator, the room of each tier, the seconds of replays. So the
optimum is at or below the time of every schedule, in the model and on a machine whose operators
and links are as in the trace.

Time tau_j at point j is its clock plus T_j, the seconds added so far (waits and replays). With
x (swapped), y (computed again), Y (a replay runs), D (bytes written by tau_j), H (bytes read):

    minimise T_N, with T not falling, and for every point j
    Z_j - E_j + H_j <= budget - fixed_j        Z_j: bytes not computed again, between their uses
    D_j - D_(j-1) <= out (tau_j - tau_(j-1))   D_j <= what is there to be written
    E_j <= D_j                                 E_j <= what nobody else holds any more
    H_j - H_(j-1) <= in (tau_j - tau_(j-1))    what is needed <= H_j <= D_j
    T_N - T_(e-1) >= seconds of all replays that cannot run before e
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from ithaca.swap.columns import Columns, Ints
from ithaca.swap.trace import Trace


@dataclass(frozen=True)
class Bound:
    """The optimum of the programme.

    Args:
        step_s: at or below the step time of every schedule.
        swapped_bytes: what the optimum swaps.
        recomputed_bytes: what it computes again.
        whole: whether storages had to be kept, swapped or computed again as a whole.
    """

    step_s: float
    swapped_bytes: float
    recomputed_bytes: float
    whole: bool


def lower_bound(
    trace: Trace, budget_bytes: int, *, whole: bool = False, time_limit_s: float = 60.0
) -> Bound | None:
    """The bound for ``trace`` under ``budget_bytes``; ``None`` if nothing can fit.

    With ``whole``, no storage is split, which is the tighter bound and takes time exponential in
    their number. If the solver runs out of time, what it has proved so far is returned.

    Raises:
        RuntimeError: the solver found no bound; its own message is in the text.
    """
    columns = Columns.of(trace)
    if columns.keep_all().max(initial=0) <= budget_bytes:
        return Bound(float(columns.clock[-1]), 0.0, 0.0, whole)
    programme = _Programme(columns, budget_bytes)
    if programme.room.min(initial=0.0) < 0.0:
        return None
    return programme.solve(whole, time_limit_s)


@dataclass
class _Rows:
    """A sparse system of rows ``low <= a x <= high``."""

    row: list[int] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: list[tuple[int, float]], low: float, high: float) -> None:
        """One row."""
        self.row += [len(self.low)] * len(terms)
        self.column += [column for column, _ in terms]
        self.value += [value for _, value in terms]
        self.low.append(low)
        self.high.append(high)

    def constraint(self, size: int) -> LinearConstraint:
        """All of them, for ``size`` variables."""
        shape = (len(self.low), size)
        matrix = csr_array((self.value, (self.row, self.column)), shape=shape)
        return LinearConstraint(matrix, np.array(self.low), np.array(self.high))


_INF = float("inf")


class _Programme:
    """Variables in units of ``_byte`` and ``_second``, so that all numbers are near one."""

    def __init__(self, columns: Columns, budget_bytes: int) -> None:
        self.columns = columns
        self.trace = columns.trace
        self.last = len(columns.base)
        self._byte = max(1.0, float(columns.nbytes.max(initial=1)))
        self._second = max(1e-9, float(columns.clock[-1]) / 100)
        self.rows = _Rows()
        self._names = 0
        self.nbytes = columns.nbytes / self._byte
        self.moving = np.flatnonzero(columns.movable & (columns.nbytes > 0)).tolist()
        fixed = columns.fixed + columns.held(*self._forced())
        self.room = (budget_bytes - fixed) / self._byte
        links = range(len(self.trace.links))
        self.x = {(s, c): self._new() for s in self.moving for c in links}
        self.y = {
            (s, k): self._new()
            for k, replay in enumerate(self.trace.replays)
            for s in replay.outputs
            if s in set(self.moving)
        }
        self.runs = [self._new() for _ in self.trace.replays]
        self.part = self._names  # all of these are shares, 0 to 1
        self.extra = self._line()
        self.between = self._line()
        self.written = [self._line() for _ in links]
        self.given = [self._line() for _ in links]
        self.read = [self._line() for _ in links]

    def _new(self) -> int:
        self._names += 1
        return self._names - 1

    def _line(self) -> list[int]:
        """One variable for every point and the end."""
        return [self._new() for _ in range(self.last + 1)]

    def _forced(self) -> tuple[Ints, Ints, Ints]:
        """Where storages are in memory whatever is decided."""
        columns = self.columns
        movable, state = columns.movable, columns.state
        first = np.where(movable & state, columns.first_use, columns.produced)
        first_end = np.where(movable, columns.released, columns.freed)
        again = np.flatnonzero(movable & ~state)
        return (
            np.concatenate([first, columns.first_use[again]]),
            np.concatenate([first_end, columns.freed[again]]),
            np.concatenate([columns.nbytes, columns.nbytes[again]]),
        )

    def solve(self, whole: bool, time_limit_s: float) -> Bound | None:
        """Writes the rows and minimises the time added."""
        self._shares()
        self._memory()
        for tier in range(len(self.trace.links)):
            self._tier(tier)
        self._speeds()
        self._replays()
        size = self._names
        upper = np.full(size, np.inf)
        upper[: self.part] = 1.0
        lower = np.zeros(size)
        lower[self.between] = -np.inf  # a state that has been read is counted as such
        kinds = np.zeros(size)
        if whole:
            kinds[list(self.x.values()) + list(self.y.values())] = 1
        cost = np.zeros(size)
        cost[self.extra[-1]] = 1.0
        answer = milp(
            cost,
            integrality=kinds,
            bounds=Bounds(lower, upper),
            constraints=self.rows.constraint(size),
            options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
        )
        if answer.status == 2:
            return None
        best = answer.mip_dual_bound if whole else answer.fun
        if best is None or answer.x is None or not np.isfinite(best):
            raise RuntimeError(f"no lower bound was found: {answer.message}")
        values = answer.x
        return Bound(
            step_s=float(self.columns.clock[-1]) + max(0.0, float(best)) * self._second,
            swapped_bytes=sum(float(values[v]) * self._size(s) for (s, _), v in self.x.items()),
            recomputed_bytes=sum(float(values[v]) * self._size(s) for (s, _), v in self.y.items()),
            whole=whole,
        )

    def _size(self, storage: int) -> float:
        return float(self.columns.nbytes[storage])

    def _shares(self) -> None:
        mine: dict[int, list[tuple[int, float]]] = {s: [] for s in self.moving}
        for (storage, _), variable in (*self.x.items(), *self.y.items()):
            mine[storage].append((variable, 1.0))
        for terms in mine.values():
            self.rows.add(terms, 0.0, 1.0)
        for (_, which), variable in self.y.items():
            self.rows.add([(variable, 1.0), (self.runs[which], -1.0)], -_INF, 0.0)

    def _memory(self) -> None:
        """What is not computed again takes its bytes between its uses, unless it is written."""
        columns, rows = self.columns, self.rows
        again: dict[int, list[int]] = {s: [] for s in self.moving}
        for (storage, _), variable in self.y.items():
            again[storage].append(variable)
        change: list[list[tuple[int, float]]] = [[] for _ in range(self.last + 1)]
        constant = np.zeros(self.last + 1)
        for s in self.moving:
            size, state = float(self.nbytes[s]), bool(columns.state[s])
            for point, sign in ((columns.released[s], 1.0), (columns.first_use[s], -1.0)):
                constant[point] += sign * size
                change[point] += [(variable, sign * size) for variable in again[s]]
            if state:
                constant[0] += size
                change[0] += [(self.x[s, c], size) for c in range(len(self.trace.links))]
        for j in range(self.last + 1):
            terms = [(self.between[j], 1.0), *change[j]]
            if j:
                terms.append((self.between[j - 1], -1.0))
            rows.add(terms, constant[j], constant[j])
        for j in range(self.last):
            terms = [(self.between[j], 1.0)]
            terms += [(line[j], -1.0) for line in self.given]
            terms += [(line[j], 1.0) for line in self.read]
            rows.add(terms, -_INF, float(self.room[j]))

    def _tier(self, tier: int) -> None:
        """What is there to be written, what has to be back, and what the tier can hold."""
        columns, rows = self.columns, self.rows
        written, given, read = self.written[tier], self.given[tier], self.read[tier]
        there = self._cumulative(tier, np.where(columns.state, columns.ready, columns.produced + 1))
        released = self._cumulative(tier, columns.released)
        needed = self._cumulative(tier, columns.first_use)
        states = [(self.x[s, tier], float(self.nbytes[s])) for s in self.moving if columns.state[s]]
        paid = [(variable, -size) for variable, size in states]
        capacity = self.trace.links[tier].capacity_bytes
        room = _INF if capacity is None else capacity / self._byte
        for j in range(self.last + 1):
            rows.add([(written[j], 1.0), (there[j], -1.0)], -_INF, 0.0)
            rows.add([(given[j], 1.0), (written[j], -1.0)], -_INF, 0.0)
            rows.add([(given[j], 1.0), (released[j], -1.0)], -_INF, 0.0)
            rows.add([(read[j], 1.0), (needed[j], -1.0)], 0.0, _INF)
            rows.add([(read[j], 1.0), (written[j], -1.0), *paid], -_INF, 0.0)
            if capacity is not None:
                rows.add([(written[j], 1.0), (read[j], -1.0), *states], -_INF, room)
        rows.add([(written[-1], 1.0), (there[-1], -1.0)], 0.0, 0.0)

    def _cumulative(self, tier: int, points: Ints) -> list[int]:
        """A line of variables: the swapped bytes of the storages whose point has been reached."""
        change: list[list[tuple[int, float]]] = [[] for _ in range(self.last + 1)]
        for s in self.moving:
            change[points[s]].append((self.x[s, tier], -float(self.nbytes[s])))
        line = self._line()
        for j in range(self.last + 1):
            before = [(line[j - 1], -1.0)] if j else []
            self.rows.add([(line[j], 1.0), *before, *change[j]], 0.0, 0.0)
        return line

    def _speeds(self) -> None:
        """No link moves more than its speed allows; a link on the way carries both."""
        links, rows = self.trace.links, self.rows
        seconds = np.diff(self.columns.clock, prepend=0.0)
        unit = self._second / self._byte
        for position, link in enumerate(links):
            users = [c for c, other in enumerate(links) if link.tier in (other.tier, other.through)]
            direct = link.through is None
            for lines, speed in (
                (self.written, link.out_bytes_per_s),
                (self.read, link.in_bytes_per_s),
            ):
                for j in range(self.last + 1):
                    if direct:
                        terms = [(lines[c][j], 1.0) for c in users]
                        terms += [(lines[c][j - 1], -1.0) for c in users if j]
                        time = [(self.extra[j], -speed * unit)]
                        time += [(self.extra[j - 1], speed * unit)] if j else []
                        limit = speed * float(seconds[j]) / self._byte
                    else:
                        # Both hops of what is read back have passed here, out and in.
                        terms = [(self.read[position][j], 1.0)]
                        time = [(self.extra[j], -speed * unit)]
                        limit = speed * float(self.columns.clock[j]) / self._byte
                        if lines is self.written:
                            terms += self._paged(position)
                    rows.add([*terms, *time], -_INF, limit)
            for lines in (self.written, self.read):
                for j in range(1, self.last + 1):
                    rows.add([(lines[position][j], 1.0), (lines[position][j - 1], -1.0)], 0.0, _INF)

    def _paged(self, tier: int) -> list[tuple[int, float]]:
        """What could be read without being written in this step."""
        state = self.columns.state
        return [(self.x[s, tier], -float(self.nbytes[s])) for s in self.moving if state[s]]

    def _replays(self) -> None:
        """The time added does not fall, and has room for the replays where they can run."""
        rows, extra = self.rows, self.extra
        for j in range(1, self.last + 1):
            rows.add([(extra[j], 1.0), (extra[j - 1], -1.0)], 0.0, _INF)
        replays = self.trace.replays
        need = self.columns.first_use.copy()
        earliest = [0] * len(replays)
        for k in sorted(range(len(replays)), key=lambda k: -min(replays[k].outputs)):
            earliest[k] = int(need[list(replays[k].outputs)].min())
            for index in replays[k].inputs:
                need[index] = min(need[index], earliest[k])
        latest = [int(self.columns.first_use[list(part.outputs)].max()) for part in replays]
        cost = [(self.runs[k], replay.seconds / self._second) for k, replay in enumerate(replays)]
        for point in sorted(set(earliest)):
            terms = [(v, -c) for k, (v, c) in enumerate(cost) if earliest[k] >= point]
            before = [(extra[point - 1], -1.0)] if point else []
            rows.add([(extra[-1], 1.0), *before, *terms], 0.0, _INF)
        for point in sorted(set(latest)):
            terms = [(v, -c) for k, (v, c) in enumerate(cost) if latest[k] <= point]
            rows.add([(extra[point], 1.0), *terms], 0.0, _INF)
