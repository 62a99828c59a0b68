"""What can be computed again, as parts of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ithaca.swap.blocks import BlockRun
from ithaca.swap.identity import Identity, Phase, SegmentKey
from ithaca.swap.trace import Recipe, Replay, Role, Trace

# What one operator takes, roughly: the call, and its operands and result.
CALL_SECONDS, BYTES_PER_S = 5e-6, 2e9
_CHEAP = "again:"


def is_cheap(replay: str | None) -> bool:
    """Whether a replay of this name is one operator, and not a block."""
    return replay is not None and replay.startswith(_CHEAP)


def with_operators(trace: Trace, makers: Sequence[tuple[Identity, tuple[Identity, ...]]]) -> Trace:
    """The trace with a replay for every storage that one operator makes from others.

    Args:
        trace: of a step.
        makers: for each such storage its name, and those of the inputs as far as they are known;
            only their places count.
    """
    places = {
        (identity.segment, identity.ordinal): index
        for index, identity in enumerate(saved.identity for saved in trace.saved)
    }
    replays = []
    for output, inputs in makers:
        made = places.get((output.segment, output.ordinal))
        found = {places.get((part.segment, part.ordinal)) for part in inputs}
        read = tuple(sorted(index for index in found if index is not None))
        if made is None or (read and read[-1] >= made):
            continue
        touched = sum(trace.saved[index].nbytes for index in (made, *read))
        replays.append(
            Replay(
                name=f"{_CHEAP}{output.segment}#{output.ordinal}",
                recipe=Recipe.CHEAP,
                seconds=CALL_SECONDS + touched / BYTES_PER_S,
                outputs=(made,),
                inputs=read,
            )
        )
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
        workspace_bytes=max((point.workspace_bytes for point in points), default=0),
    )
