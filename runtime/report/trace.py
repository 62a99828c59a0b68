"""The run as a trace that Perfetto and Chrome's trace viewer open.

The format is the JSON array form of Chrome's trace events: ``M`` names processes and threads, ``X``
is a slice with a duration, ``s`` and ``f`` the ends of an arrow, ``C`` a counter, ``i`` an instant.
Times are microseconds since the first moment in the log; the clocks of machines are not corrected.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ithaca.planner.program import Cargo, Compute, Op, Transfer, parse_action
from ithaca.runtime.atomic import replace_file
from ithaca.runtime.events import (
    CheckpointWritten,
    Event,
    RunEnded,
    StepDone,
    Timeline,
    Validated,
    Warned,
    WorkerFailed,
)
from ithaca.runtime.report.gantt import EXCHANGE, op_of
from ithaca.runtime.report.story import Story, tell
from ithaca.runtime.report.wording import printable

RUN = 1
"""The process id of what belongs to no worker; worker ``w`` is ``w + 2``."""
_STEPS, _CHECKPOINTS, _VALIDATIONS = 1, 2, 3
_COMPUTE, _EXCHANGE = 1, 101
"""First thread ids of a worker; more follow where slices overlap."""

Record = dict[str, Any]


def build_trace(events: Iterable[Event]) -> Record:
    """The trace as an object ready for JSON; a pure function of ``events``."""
    listed = list(events)
    story = tell(listed)
    moments = [e.time_s - (e.seconds if isinstance(e, _LASTING) else 0.0) for e in listed]
    moments += [line.began_s for line in _timelines(story)]
    origin_s = min(moments, default=0.0)
    records = [
        *_names(story),
        *_run(listed, story, origin_s),
        *_workers(story, origin_s),
    ]
    return {
        "traceEvents": records,
        "displayTimeUnit": "ms",
        "otherData": {"name": printable(story.run.name) if story.run else "", "origin_s": origin_s},
    }


def write_trace(events: Iterable[Event], path: Path) -> None:
    """Write the trace to ``path``, whole or not at all; ``OSError`` if that cannot be done."""
    text = json.dumps(build_trace(events), allow_nan=False, separators=(",", ":"))
    replace_file(path, [text.encode()])


_LASTING = StepDone | Validated | CheckpointWritten


def _timelines(story: Story) -> Iterator[Timeline]:
    for _, lines in sorted(story.timelines.items()):
        for _, line in sorted(lines.items()):
            yield line


def _names(story: Story) -> Iterator[Record]:
    yield _meta("process_name", RUN, 0, name=printable(story.run.name) if story.run else "run")
    yield _meta("process_sort_index", RUN, 0, sort_index=-1)
    tracks = ((_STEPS, "steps"), (_CHECKPOINTS, "checkpoints"), (_VALIDATIONS, "validation"))
    for thread, name in tracks:
        yield _meta("thread_name", RUN, thread, name=name)
    for worker in sorted({*story.workers, *(line.worker for line in _timelines(story))}):
        joined = story.workers.get(worker)
        where = f" on {printable(joined.node)}" if joined else ""
        yield _meta("process_name", worker + 2, 0, name=f"worker {worker}{where}")
        yield _meta("process_sort_index", worker + 2, 0, sort_index=worker)


def _run(events: list[Event], story: Story, origin_s: float) -> Iterator[Record]:
    """Steps, validations and checkpoints as slices, losses as counters, the rest as instants."""
    ends: dict[int, float] = defaultdict(float)
    for event in sorted(events, key=lambda e: e.time_s):
        at = _micro(event.time_s - origin_s)
        match event:
            case StepDone():
                yield _lasting(_STEPS, f"step {event.step}", at, event.seconds, ends)
                yield from _counters(event, story, at)
            case Validated():
                yield _lasting(_VALIDATIONS, f"after {event.step}", at, event.seconds, ends)
                yield from _counter("validation loss", event.loss * story.scale, at)
            case CheckpointWritten():
                yield _lasting(_CHECKPOINTS, f"after {event.step}", at, event.seconds, ends)
            case Warned():
                yield _instant(f"warning: {event.message}", at)
            case WorkerFailed():
                yield _instant(f"worker {event.worker} failed: {event.cause}", at)
            case RunEnded():
                yield _instant(event.outcome, at)


def _counters(event: StepDone, story: Story, at: float) -> Iterator[Record]:
    yield from _counter("loss", event.loss * story.scale, at)
    yield from _counter("gradient norm", event.norm, at)
    if event.seconds > 0:
        yield from _counter("throughput", event.count / event.seconds, at)


def _workers(story: Story, origin_s: float) -> Iterator[Record]:
    """Every recorded step of every worker, computing and exchanging apart, with arrows."""
    tracks: dict[int, set[int]] = defaultdict(set)
    lanes: dict[tuple[int, int], list[float]] = defaultdict(list)
    arrow = 0
    for _, lines in sorted(story.timelines.items()):
        slices: list[Record] = []
        for _, line in sorted(lines.items()):
            for record in _slices(line, origin_s, lanes):
                tracks[record["pid"]].add(record["tid"])
                slices.append(record)
        yield from slices
        for record in _arrows(slices, arrow):
            arrow = record["id"]
            yield record
    for process, threads in tracks.items():
        for thread in sorted(threads):
            first = _COMPUTE if thread < _EXCHANGE else _EXCHANGE
            name = "compute" if first == _COMPUTE else "communication"
            number = f" {thread - first + 1}" if thread > first else ""
            yield _meta("thread_name", process, thread, name=name + number)


def _slices(
    line: Timeline, origin_s: float, lanes: dict[tuple[int, int], list[float]]
) -> Iterator[Record]:
    """A worker's rows; each goes on the first thread that is free at its start."""
    process = line.worker + 2
    for action, start_s, end_s in sorted(line.rows, key=lambda row: (row[1], -row[2])):
        op = op_of(action)
        at = _micro(line.began_s - origin_s + start_s)
        end = max(at, _micro(line.began_s - origin_s + end_s))
        first = _EXCHANGE if op in EXCHANGE else _COMPUTE
        free = lanes[process, first]
        lane = next((i for i, until in enumerate(free) if until <= at), len(free))
        free[lane : lane + 1] = [end]
        yield {
            "name": printable(action),
            "cat": op.lower(),
            "ph": "X",
            "ts": at,
            "dur": round(end - at, 3),
            "pid": process,
            "tid": first + lane,
            "args": {"step": line.step},
        }


def _arrows(slices: list[Record], last: int) -> Iterator[Record]:
    """From each SEND to the compute that uses what it sent, if that began after the SEND."""
    users: dict[tuple[int, Cargo, int, int], Record] = {}
    sends: list[tuple[tuple[int, Cargo, int, int], Record]] = []
    for record in slices:
        try:
            action = parse_action(record["name"].split())
        except ValueError:
            continue
        worker = record["pid"] - 2
        if isinstance(action, Transfer) and action.op is Op.SEND:
            sends.append(((action.peer, *action.key), record))
        elif isinstance(action, Compute) and action.op is Op.F:
            users[worker, Cargo.ACTIVATION, action.layers.first, action.micro_batch] = record
        elif isinstance(action, Compute) and action.op in (Op.B, Op.I):
            users[worker, Cargo.GRADIENT, action.layers.last, action.micro_batch] = record
    for key, send in sends:
        user = users.get(key)
        if user is None or user["ts"] < send["ts"]:
            continue
        last += 1
        for record, end in ((send, {"ph": "s"}), (user, {"ph": "f", "bp": "e"})):
            place = {name: record[name] for name in ("ts", "pid", "tid")}
            yield {"name": "message", "cat": "message", **end, "id": last, **place}


def _lasting(thread: int, name: str, end: float, seconds: float, ends: dict[int, float]) -> Record:
    """A slice that ended at ``end`` and does not reach into the one before it."""
    start = min(end, max(ends[thread], end - _micro(seconds)))
    ends[thread] = end
    return {"name": name, "cat": "run", "ph": "X", "ts": start, "dur": round(end - start, 3),
            "pid": RUN, "tid": thread, "args": {}}  # fmt: skip


def _counter(name: str, value: float, at: float) -> Iterator[Record]:
    if math.isfinite(value):
        yield {"name": name, "ph": "C", "ts": at, "pid": RUN, "tid": 0, "args": {name: value}}


def _instant(name: str, at: float) -> Record:
    return {"name": printable(name), "ph": "i", "s": "g", "ts": at, "pid": RUN, "tid": 0}


def _meta(kind: str, process: int, thread: int, **args: object) -> Record:
    return {"name": kind, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": args}


def _micro(seconds: float) -> float:
    """Microseconds, to the nanosecond."""
    return round(seconds * 1e6, 3)
