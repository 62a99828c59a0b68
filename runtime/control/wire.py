"""Plain values to messages and back; nothing but numbers and text crosses the wire."""

from __future__ import annotations

import math

from ithaca.runtime.control import control_pb2 as pb
from ithaca.runtime.control.feed import FeedSlice
from ithaca.runtime.control.roll import Attend, Order, OrderKind
from ithaca.runtime.control.surface import (
    Beat,
    BeatReply,
    Command,
    Record,
    RunStatus,
    WorkerStatus,
)

MAX_MESSAGE_BYTES = 4 << 20
"""A larger message is refused by both sides."""
MAX_RECORD_BYTES = 1 << 20
"""The longest event that a beat or a chunk carries, in UTF-8."""
GENERATION_KEY = "ithaca-generation"
"""Trailing metadata of a refused beat: the run's generation."""
MAX_TEXT = 4096
"""The longest name of an action or an incarnation, in characters."""

_TO_COMMAND = {
    Command.NONE: pb.COMMAND_NONE,
    Command.DRAIN: pb.COMMAND_DRAIN,
    Command.STOP: pb.COMMAND_STOP,
}
_FROM_COMMAND = {number: command for command, number in _TO_COMMAND.items()}
_TO_KIND = {
    OrderKind.FENCE: pb.ORDER_FENCE,
    OrderKind.DRAIN: pb.ORDER_DRAIN,
    OrderKind.PAUSE: pb.ORDER_PAUSE,
    OrderKind.INJECT: pb.ORDER_INJECT,
    OrderKind.DUMP: pb.ORDER_DUMP,
}
_FROM_KIND = {number: kind for kind, number in _TO_KIND.items()}


def status_to_message(status: RunStatus) -> pb.StatusReply:
    """The message for ``status``; what is None stays unset."""
    return pb.StatusReply(
        name=status.name,
        state=status.state,
        step=status.step,
        steps=status.steps,
        loss=status.loss,
        throughput=status.throughput,
        generation=status.generation,
        plan=status.plan,
        workers=[_worker_to_message(worker) for worker in status.workers],
        started=status.started,
        checkpoint_step=status.checkpoint_step,
    )


def status_from_message(message: pb.StatusReply) -> RunStatus:
    """The status that :func:`status_to_message` wrote."""
    return RunStatus(
        name=message.name,
        state=message.state,
        step=message.step,
        steps=message.steps,
        loss=message.loss if message.HasField("loss") else None,
        throughput=message.throughput if message.HasField("throughput") else None,
        generation=message.generation,
        plan=message.plan,
        workers=tuple(_worker_from_message(worker) for worker in message.workers),
        started=message.started,
        checkpoint_step=message.checkpoint_step if message.HasField("checkpoint_step") else None,
    )


def _worker_to_message(worker: WorkerStatus) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        id=worker.id,
        node=worker.node,
        pid=worker.pid,
        state=worker.state,
        step=worker.step,
        action=worker.action,
        since_s=worker.since_s,
        age_s=worker.age_s,
    )


def _worker_from_message(message: pb.WorkerStatus) -> WorkerStatus:
    return WorkerStatus(
        id=message.id,
        node=message.node,
        pid=message.pid,
        state=message.state,
        step=message.step,
        action=message.action,
        since_s=message.since_s,
        age_s=message.age_s if message.HasField("age_s") else None,
    )


def beat_to_message(beat: Beat) -> pb.BeatRequest:
    """The message for ``beat``."""
    return pb.BeatRequest(
        worker=beat.worker,
        incarnation=beat.incarnation,
        generation=beat.generation,
        step=beat.step,
        action=beat.action,
        since_s=beat.since_s,
        acknowledged=beat.acknowledged,
        expected_s=beat.expected_s,
        complaint=beat.complaint,
        records=[pb.Record(sequence=each.sequence, line=each.line) for each in beat.records],
    )


def beat_from_message(message: pb.BeatRequest) -> Beat:
    """The beat that :func:`beat_to_message` wrote; ``ValueError`` if no worker would send it."""
    for seconds in (message.since_s, message.expected_s):
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ValueError(f"a beat tells seconds since an action began, not {seconds}")
    if max(map(len, (message.action, message.incarnation, message.complaint))) > MAX_TEXT:
        raise ValueError(f"a beat's texts have at most {MAX_TEXT} characters")
    sequences = [record.sequence for record in message.records]
    if sequences != sorted(set(sequences)) or (sequences and sequences[0] == 0):
        raise ValueError("a beat's records are numbered upwards from 1")
    if any("\n" in record.line or "\r" in record.line for record in message.records):
        raise ValueError("a beat's record is one line")
    return Beat(
        worker=message.worker,
        incarnation=message.incarnation,
        generation=message.generation,
        step=message.step,
        action=message.action,
        since_s=message.since_s,
        acknowledged=message.acknowledged,
        expected_s=message.expected_s,
        complaint=message.complaint,
        records=tuple(Record(each.sequence, each.line) for each in message.records),
    )


def reply_to_message(reply: BeatReply) -> pb.BeatReply:
    """The message for ``reply``."""
    return pb.BeatReply(
        command=_TO_COMMAND[reply.command],
        generation=reply.generation,
        acknowledged=reply.acknowledged,
    )


def reply_from_message(message: pb.BeatReply) -> BeatReply:
    """The reply that :func:`reply_to_message` wrote; ``ValueError`` for a command not known."""
    if message.command not in _FROM_COMMAND:
        raise ValueError(f"command {message.command} is not known here")
    command = _FROM_COMMAND[message.command]
    return BeatReply(command, message.generation, message.acknowledged)


def slice_to_message(part: FeedSlice) -> pb.EventsChunk:
    """The message for ``part``."""
    return pb.EventsChunk(lost=part.lost, first=part.first, lines=part.lines, ended=part.ended)


def slice_from_message(message: pb.EventsChunk) -> FeedSlice:
    """The slice that :func:`slice_to_message` wrote."""
    return FeedSlice(message.lost, message.first, tuple(message.lines), message.ended)


def attend_to_message(who: Attend) -> pb.AttendRequest:
    """The message for ``who``."""
    return pb.AttendRequest(
        worker=who.worker, incarnation=who.incarnation, generation=who.generation
    )


def attend_from_message(message: pb.AttendRequest) -> Attend:
    """The request that :func:`attend_to_message` wrote; ``ValueError`` if no worker sends it."""
    if len(message.incarnation) > MAX_TEXT:
        raise ValueError(f"an incarnation has at most {MAX_TEXT} characters")
    return Attend(message.worker, message.incarnation, message.generation)


def order_to_message(order: Order) -> pb.Order:
    """The message for ``order``."""
    return pb.Order(generation=order.generation, kind=_TO_KIND[order.kind], text=order.text)


def order_from_message(message: pb.Order) -> Order:
    """The order that :func:`order_to_message` wrote; ``ValueError`` for a kind not known."""
    if message.kind not in _FROM_KIND:
        raise ValueError(f"order {message.kind} is not known here")
    return Order(message.generation, _FROM_KIND[message.kind], message.text)
