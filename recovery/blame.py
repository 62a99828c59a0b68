"""Who is to blame when nothing moves: the worker that is overdue and itself waits for nobody.

A worker may wait long because another computes long; so the time it has spent in an action says
nothing by itself. Workers tell where they are, and their Programs tell whom an action needs. From
these follows the wait-for graph, and blame goes along it to its end. See :func:`blame` for the
three rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ithaca.planner.program import (
    Action,
    Cargo,
    Commit,
    Compute,
    Op,
    Program,
    Reduce,
    Spread,
    Tie,
    Transfer,
)

WAIT = "WAIT "
"""Before the text of an action: the worker has begun it and waits for what it needs."""
DONE = "done"
"""The action of a worker that has nothing left to do, for however long."""
OVERDUE_FACTOR = 4.0
"""How many times longer than expected an action may take before its worker is overdue."""
PATIENCE = 2.0
"""How many times longer workers may wait for each other in a circle, or all be silent at once,
before one of them is taken out although nothing tells which."""

Place = tuple[int, int, int, int]
"""Generation, step, which of its Programs, and the action's position: ascending as work goes on."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A worker's last sign of life.

    Attributes:
        worker: whose it is.
        generation: that it works in.
        step: steps that it has committed.
        action: what it was doing, as text; with :data:`WAIT` before it when it was blocked.
        since_s: seconds it had been doing that when it beat.
        age_s: seconds since the beat came.
        expected_s: seconds that the action was expected to take; 0.0 if that is not known.
    """

    worker: int
    generation: int
    step: int
    action: str
    since_s: float
    age_s: float
    expected_s: float = 0.0


class Reason(Enum):
    """Why a worker is blamed.

    ``silent``: it has not beaten for so long. ``overdue``: it beats, but has been in one action for
    too long and waits for nobody. ``circle``: all who are overdue wait for each other.
    """

    SILENT = "silent"
    OVERDUE = "overdue"
    CIRCLE = "circle"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A worker to blame, and the evidence in words."""

    worker: int
    reason: Reason
    evidence: str


def blame(
    signs: Iterable[Sign],
    programs: Mapping[int, Sequence[Program]],
    detect_s: float,
    late_s: float = 0.0,
    needed: frozenset[int] = frozenset(),
) -> tuple[Suspect, ...]:
    """Who is to blame for a stand-still, by worker; nobody as long as somebody may be working.

    1. *Silent*: no beat for ``detect_s``. When all are silent at once it is more likely that this
       process was cut off or stood still itself: then only after :data:`PATIENCE` times as long.
    2. *Overdue*: in one action for longer than ``max(detect_s, OVERDUE_FACTOR x expected)``, and
       waiting for nobody.
    3. *Circle*: nobody is blamed so far, and every worker that is not :data:`DONE` is overdue by
       :data:`PATIENCE` times and waits for another: a message was lost between two who both seem
       well. Who waits for somebody that has done its part is one end of a link on which nothing
       arrives, the other is the other end. Of these ends one on most such links is taken out, so
       that no wait is for ever; rather one that is not needed, and of several the one that has
       waited longest.

    Args:
        signs: one for each worker of the plan that is not given up.
        programs: of each worker, in the order in which it runs them in one step.
        detect_s: the user's one number.
        late_s: by how much this process was late itself since the last look; all ages are less by
            that, as nobody's beat could have been taken meanwhile.
        needed: those that nobody can take the place of.
    """
    known = {sign.worker: _discounted(sign, late_s) for sign in signs}
    if not known:
        return ()
    patience = PATIENCE if all(sign.age_s >= detect_s for sign in known.values()) else 1.0
    found = {
        worker: Suspect(worker, Reason.SILENT, f"no sign of life for {sign.age_s:.1f} s, "
                        f"last in {_where(sign)}")
        for worker, sign in known.items()
        if sign.age_s >= patience * detect_s
    }  # fmt: skip
    graph = waits_for(known.values(), programs)
    late = {worker: _overdue(sign, detect_s) for worker, sign in known.items()}
    for worker, sign in known.items():
        if worker not in found and late[worker] >= 1.0 and not graph[worker]:
            evidence = (
                f"in {_where(sign)} for {sign.since_s:.1f} s and waiting for nobody; "
                f"expected {max(sign.expected_s, 0.0):.2g} s"
            )
            found[worker] = Suspect(worker, Reason.OVERDUE, evidence)
    busy = {worker: sign for worker, sign in known.items() if sign.action != DONE}
    if not found and busy and all(late[w] >= PATIENCE and graph[w] for w in busy):
        found = _circle(busy, graph, silent_links(busy.values(), programs), needed)
    return tuple(found[worker] for worker in sorted(found))


def waits_for(
    signs: Iterable[Sign], programs: Mapping[int, Sequence[Program]]
) -> dict[int, frozenset[int]]:
    """Whom each worker waits for, as far as it can be seen: those that are behind what it needs.

    A worker that says itself that it waits, for something whose other ends have all passed, waits
    for these others: the message is on its way, or lost.
    """
    return {
        worker: behind or passed for worker, (behind, passed) in _partners(signs, programs).items()
    }


def silent_links(
    signs: Iterable[Sign], programs: Mapping[int, Sequence[Program]]
) -> tuple[tuple[int, int], ...]:
    """Who waits for whom although the other has done its part: a message is lost, or on its way."""
    return tuple(
        (worker, other)
        for worker, (behind, passed) in _partners(signs, programs).items()
        for other in sorted(passed)
        if not behind
    )


def _partners(
    signs: Iterable[Sign], programs: Mapping[int, Sequence[Program]]
) -> dict[int, tuple[frozenset[int], frozenset[int]]]:
    """Of each worker those that are behind what it needs, and, if it says that it waits, the others
    that it needs something of."""
    known = {sign.worker: sign for sign in signs}
    places = {worker: place(sign, programs.get(worker, ())) for worker, sign in known.items()}
    return {worker: _needed(sign, places, programs, known) for worker, sign in known.items()}


def place(sign: Sign, programs: Sequence[Program]) -> Place:
    """How far a worker has come; before the first action of its step if the text is none."""
    text = sign.action.removeprefix(WAIT)
    for which, program in enumerate(programs):
        for position, action in enumerate(program.actions):
            if str(action) == text:
                return sign.generation, sign.step, which, position
    return sign.generation, sign.step, 0, -1


def _needed(
    sign: Sign,
    places: Mapping[int, Place],
    programs: Mapping[int, Sequence[Program]],
    known: Mapping[int, Sign],
) -> tuple[frozenset[int], frozenset[int]]:
    generation, step, which, position = places[sign.worker]
    others = known.keys() - {sign.worker}
    blocked = sign.action.startswith(WAIT)
    if position < 0:
        # A named point beside the Programs. Where it waits, it waits for those that lag behind;
        # if nobody does, for all.
        behind = frozenset(o for o in others if places[o] < places[sign.worker])
        return (behind, frozenset(others)) if blocked else (frozenset(), frozenset())
    partners: dict[int, Place] = {}
    program = programs[sign.worker][which]
    for other, action in _counterparts(program, position, sign.worker, others):
        if other in others:
            at = _position(programs.get(other, ()), which, action)
            partners[other] = (generation, step, which, at)
    behind = frozenset(other for other, needed in partners.items() if places[other] < needed)
    return behind, frozenset(partners) if blocked else frozenset()


def _counterparts(
    program: Program, position: int, worker: int, others: Iterable[int]
) -> Iterable[tuple[int, Action]]:
    """Who must have done what, by its own text, before ``worker`` can end its action."""
    action = program.actions[position]
    match action:
        case Compute():
            key = _input(action, program.num_layers)
            return [
                (received.peer, _sent(received, worker))
                for received in program.actions[:position]
                if isinstance(received, Transfer) and received.op is Op.RECV and received.key == key
            ]
        case Reduce():
            return [(share.worker, action) for share in action.shares if share.worker != worker]
        case Spread():
            source = action.source
            return [] if worker == source else [(source, action)]
        case Tie():
            return [(other, action) for other in action.workers if other != worker]
        case Commit():
            return [(other, action) for other in others]
    return []


def _input(action: Compute, num_layers: int) -> tuple[Cargo, int, int] | None:
    first, last, micro_batch = action.layers.first, action.layers.last, action.micro_batch
    if action.op is Op.F and first > 0:
        return Cargo.ACTIVATION, first, micro_batch
    if action.op in (Op.B, Op.I) and last < num_layers:
        return Cargo.GRADIENT, last, micro_batch
    return None


def _sent(received: Transfer, worker: int) -> Transfer:
    return Transfer(Op.SEND, received.cargo, received.cut, received.micro_batch, worker)


def _position(programs: Sequence[Program], which: int, action: Action) -> int:
    """Where ``action`` stands in the ``which``-th Program; a SEND is done once it is passed."""
    if which >= len(programs) or action not in programs[which].actions:
        return -1
    position = programs[which].actions.index(action)
    return position + 1 if isinstance(action, Transfer) else position


def _circle(
    known: Mapping[int, Sign],
    graph: Mapping[int, frozenset[int]],
    links: Iterable[tuple[int, int]],
    needed: frozenset[int],
) -> dict[int, Suspect]:
    """One end of a link on which nothing arrives; whoever has waited longest if there is none."""
    ends = Counter(end for link in links for end in link if end in known)
    most = max(ends.values(), default=0)
    worst = [worker for worker in known if ends[worker] == most]
    spared = [worker for worker in worst if worker not in needed] or worst
    out = min(spared, key=lambda worker: (-known[worker].since_s, worker))
    others = ", ".join(f"w{worker}" for worker in sorted(graph[out]))
    why = "is at an end of a link on which nothing arrives" if most else "has waited longest"
    evidence = (
        f"in {_where(known[out])} for {known[out].since_s:.1f} s; all workers wait for "
        f"each other, it for {others}, so a message was lost; it {why}"
    )
    return {out: Suspect(out, Reason.CIRCLE, evidence)}


def _discounted(sign: Sign, late_s: float) -> Sign:
    age_s = max(0.0, sign.age_s - late_s)
    return Sign(
        sign.worker, sign.generation, sign.step, sign.action, sign.since_s, age_s, sign.expected_s
    )


def _overdue(sign: Sign, detect_s: float) -> float:
    """How many times over its limit the worker had been in its action when it last beat.

    What came after that beat is not known: the worker may have moved on.
    """
    if sign.action == DONE:
        return 0.0
    return sign.since_s / max(detect_s, OVERDUE_FACTOR * sign.expected_s)


def _where(sign: Sign) -> str:
    return f"{sign.action or 'nothing yet'} of step {sign.step + 1}"
