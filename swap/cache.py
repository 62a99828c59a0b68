"""Plans by what ran: a sequence that was seen before has its plan at once, and parts of it too.

Change is told by content: two sequences are the same if all their segments are, however many
operators they have. Where only some segments are known (another expert ran, a layer was dropped),
their decisions are taken over, and the rest is left to whoever acts without a plan.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ithaca.swap.identity import At, Identity, SegmentKey
from ithaca.swap.plan import Decision, Plan
from ithaca.swap.trace import Trace, sequence_hash

# A segment as it was seen: which one, and the hash of what was in it.
Seen = tuple[SegmentKey, str]


@dataclass(frozen=True)
class Composed:
    """A plan put together for a sequence that as a whole is new.

    Args:
        plan: decisions of the storages of known segments only; what is not in it has no plan.
            Its predicted peak and times are those of the nearest known sequence.
        known: segments whose decisions were taken over.
        unknown: the others.
        base: hash of the known sequence that shares the longest run of segments with this one.
    """

    plan: Plan
    known: tuple[SegmentKey, ...]
    unknown: tuple[SegmentKey, ...]
    base: str


@dataclass(frozen=True)
class Record:
    """A sequence with its plan: ``order`` is its segments, ``parts`` the decisions of each."""

    order: tuple[Seen, ...]
    plan: Plan
    parts: dict[SegmentKey, tuple[Decision, ...]]


@dataclass
class Count:
    """How often something was asked for and found; ``rate`` is 1 if nothing was asked."""

    hits: int = 0
    misses: int = 0

    @property
    def rate(self) -> float:
        """Found over asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 1.0

    def note(self, found: bool) -> None:
        """One question more."""
        self.hits += found
        self.misses += not found


class PlanCache:
    """The plans of the latest sequences, and the latest decisions of each segment.

    Args:
        sequences: plans that are kept; the least recently used go first.
        segments: (segment, content) pairs whose decisions are kept, likewise.
    """

    def __init__(self, sequences: int = 64, segments: int = 8192) -> None:
        self._most = sequences
        self._most_segments = segments
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._segments: OrderedDict[Seen, Record] = OrderedDict()
        self._latest: dict[Identity, Decision] = {}
        self.sequences = Count()
        self.decisions = Count()

    def __len__(self) -> int:
        return len(self._records)

    def exact(self, sequence: str) -> Plan | None:
        """The plan of a known sequence; counted."""
        record = self._records.get(sequence)
        self.sequences.note(record is not None)
        if record is None:
            return None
        self._records.move_to_end(sequence)
        return record.plan

    def decision(self, identity: Identity) -> Decision | None:
        """The latest decision for a storage, while its sequence is still running; counted."""
        found = self._latest.get(identity)
        self.decisions.note(found is not None)
        return found

    def put(self, trace: Trace, plan: Plan) -> None:
        """Remembers the plan of a trace; ``ValueError`` if it is not for that sequence."""
        if plan.sequence != trace.sequence:
            raise ValueError(f"plan of {plan.sequence} for sequence {trace.sequence}")
        order = tuple((segment.key, segment.content) for segment in trace.segments)
        parts: dict[SegmentKey, list[Decision]] = {key: [] for key, _ in order}
        for line in plan.decisions:
            parts.setdefault(line.identity.segment, []).append(line)
        record = Record(order, plan, {key: tuple(lines) for key, lines in parts.items()})
        self._records[trace.sequence] = record
        self._records.move_to_end(trace.sequence)
        for seen in order:
            self._segments[seen] = record
            self._segments.move_to_end(seen)
        self._latest.update((line.identity, line) for line in plan.decisions)
        self._forget()

    def compose(self, segments: Sequence[Seen]) -> Composed | None:
        """The best that is known for a sequence; ``None`` if none of its segments is."""
        base = self._nearest(segments)
        if base is None:
            return None
        shared = set(common(base.order, segments))
        known, unknown, lines = [], [], []
        present = dict(segments)
        for seen in segments:
            record = base if seen in shared else self._segments.get(seen)
            if record is None:
                unknown.append(seen[0])
                continue
            known.append(seen[0])
            lines += [
                moved
                for line in record.parts[seen[0]]
                if (moved := _moved(line, record.order, present)) is not None
            ]
        plan = replace(base.plan, sequence=sequence_hash(segments), decisions=tuple(lines))
        return Composed(plan, tuple(known), tuple(unknown), base.plan.sequence)

    def _nearest(self, segments: Sequence[Seen]) -> Record | None:
        best, most = None, 0
        for record in self._records.values():
            size = len(common(record.order, segments))
            if size and size >= most:
                best, most = record, size
        return best

    def _forget(self) -> None:
        while len(self._records) > self._most:
            self._records.popitem(last=False)
        while len(self._segments) > self._most_segments:
            _, record = self._segments.popitem(last=False)
            for line in record.plan.decisions:
                if self._latest.get(line.identity) is line:
                    del self._latest[line.identity]


def common(known: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
    """The longest common subsequence, in O(n log n).

    A segment key occurs once in a sequence, so it is the longest rising run of positions.
    """
    position = {seen: index for index, seen in enumerate(known)}
    tails: list[int] = []
    ends: list[int] = []  # index into new of each tail
    before: dict[int, int] = {}
    for index, seen in enumerate(new):
        at = position.get(seen)
        if at is None:
            continue
        place = bisect_left(tails, at)
        if place:
            before[index] = ends[place - 1]
        if place == len(tails):
            tails.append(at)
            ends.append(index)
        else:
            tails[place], ends[place] = at, index
    chain: list[Seen] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(new[index])
        index = before.get(index, -1)
    return chain[::-1]


def _moved(
    line: Decision, order: Sequence[Seen], present: dict[SegmentKey, str]
) -> Decision | None:
    """The decision with its places in segments that are there; ``None`` if there are none left.

    A place moves to the start of the next segment of the old order that is there unchanged: later
    is right for both, since a write must not be cut short, nor room be taken early.
    """
    places: list[At | None] = []
    for at in (line.free, line.prefetch):
        if at is None:
            places.append(None)
            continue
        here = next(_after(at, order, present), None)
        if here is None:
            return None
        places.append(here)
    return replace(line, free=places[0], prefetch=places[1])


def _after(at: At, order: Sequence[Seen], present: dict[SegmentKey, str]) -> Iterator[At]:
    """``at`` itself if its segment is there unchanged, then the starts of those behind it."""
    behind = False
    for key, content in order:
        same = present.get(key) == content
        if behind and same:
            yield At(key, 0)
        elif key == at.segment:
            behind = True
            if same:
                yield at
