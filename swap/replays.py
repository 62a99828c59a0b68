"""What can be computed again, as parts of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ithaca.swap.blocks import BlockRun
from ithaca.swap.identity import Identity, Phase, SegmentKey
from ithaca.swap.trace import Point, Recipe, Replay, Role, Trace

# What one operator takes before any was observed: the call, and its operands and result.
CALL_SECONDS, BYTES_PER_S = 5e-6, 2e9
_CHEAP = "again:"


@dataclass(frozen=True, slots=True)
class Maker:
    """What is known of a storage that one operator makes again.

    Args:
        output: its name.
        inputs: those of what is read, as far as they are known; only their places count.
        beside_bytes: what the operator takes beside its result.
    """

    output: Identity
    inputs: tuple[Identity, ...]
    beside_bytes: int = 0


def is_cheap(replay: str | None) -> bool:
    """Whether a replay of this name is one operator, and not a block."""
    return replay is not None and replay.startswith(_CHEAP)


@dataclass
class Speed:
    """How fast operators are that make saved tensors again, as observed so far.

    Args:
        touched_bytes: operands and results.
        seconds: without the calls.
    """

    touched_bytes: int = 0
    seconds: float = 0.0

    @property
    def bytes_per_s(self) -> float:
        """Operands and results in a second; an assumption until something was observed."""
        return self.touched_bytes / self.seconds if self.seconds > 0 else BYTES_PER_S

    def observe(
        self, trace: Trace, makers: Sequence[Maker], made: Sequence[tuple[Identity, float]]
    ) -> None:
        """Takes up a step: what was made again in it, and the seconds that each took."""
        touched = {_place(maker.output): nbytes for maker, _, _, nbytes in _known(trace, makers)}
        for identity, seconds in made:
            nbytes = touched.get(_place(identity))
            if nbytes is not None:
                self.touched_bytes += nbytes
                self.seconds += max(0.0, seconds - CALL_SECONDS)


def _place(identity: Identity) -> tuple[SegmentKey, int]:
    return identity.segment, identity.ordinal


def _known(
    trace: Trace, makers: Sequence[Maker]
) -> Iterator[tuple[Maker, int, tuple[int, ...], int]]:
    """Every maker that the trace has: the places of its output and inputs, and their bytes."""
    places = {_place(saved.identity): index for index, saved in enumerate(trace.saved)}
    for maker in makers:
        made = places.get(_place(maker.output))
        found = {places.get(_place(part)) for part in maker.inputs}
        read = tuple(sorted(index for index in found if index is not None))
        if made is None or (read and read[-1] >= made):
            continue
        touched = sum(trace.saved[index].nbytes for index in (made, *read))
        yield maker, made, read, touched


def with_operators(
    trace: Trace, makers: Sequence[Maker], bytes_per_s: float | None = None
) -> Trace:
    """The trace with a replay for every storage that one operator makes from others.

    Args:
        trace: of a step.
        makers: of such storages.
        bytes_per_s: operands and results of an operator in a second; ``None`` is not observed.
    """
    rate = BYTES_PER_S if bytes_per_s is None else bytes_per_s
    replays = [
        Replay(
            name=f"{_CHEAP}{trace.saved[made].identity.segment}#"
            f"{trace.saved[made].identity.ordinal}",
            recipe=Recipe.CHEAP,
            seconds=CALL_SECONDS + touched / rate,
            outputs=(made,),
            inputs=read,
            workspace_bytes=maker.beside_bytes,
        )
        for maker, made, read, touched in _known(trace, makers)
    ]
    return replace(trace, replays=(*trace.replays, *replays))


def with_blocks(trace: Trace, inputs: Mapping[BlockRun, tuple[Identity, ...]]) -> Trace:
    """The trace with a replay for every run of a block.

    Args:
        trace: of a step.
        inputs: for each run, names of the first saves of its inputs; only their places count.
    """
    places = {
        (identity.segment, identity.ordinal): index
        for index, identity in enumerate(saved.identity for saved in trace.saved)
    }
    replays = []
    for run, identities in inputs.items():
        found = {places.get((identity.segment, identity.ordinal)) for identity in identities}
        replay = _replay(trace, run, {index for index in found if index is not None})
        if replay is not None:
            replays.append(replay)
    return replace(trace, replays=(*trace.replays, *replays))


def _inside(segment: SegmentKey, run: BlockRun) -> bool:
    own = segment.module == run.module and segment.visit == run.visit
    return (
        segment.phase is Phase.FORWARD
        and segment.slot == run.slot
        and (own or segment.module.startswith(f"{run.module}."))
    )


def _beside(points: Sequence[Point]) -> int:
    """What a run of a block holds at most beside what is in our care: also small saved tensors."""
    before = points[0].base_bytes if points else 0
    return max((point.base_bytes - before + point.workspace_bytes for point in points), default=0)


def _replay(trace: Trace, run: BlockRun, inputs: set[int]) -> Replay | None:
    first = max(inputs, default=-1) + 1
    outputs = tuple(
        index
        for index, saved in enumerate(trace.saved)
        if index >= first
        and index not in inputs
        and saved.role is Role.ACTIVATION
        and _inside(saved.identity.segment, run)
    )
    if not outputs:
        return None
    points = [
        point
        for segment in trace.segments
        if _inside(segment.key, run)
        for point in trace.points[segment.first : segment.last]
    ]
    return Replay(
        name=str(run),
        recipe=Recipe.BLOCK,
        seconds=sum(point.seconds for point in points),
        outputs=outputs,
        inputs=tuple(sorted(inputs)),
        workspace_bytes=_beside(points),
    )
