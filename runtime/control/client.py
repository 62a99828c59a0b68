"""Calls to a run, from a worker or from the command line."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from ithaca.runtime.control import control_pb2 as pb
from ithaca.runtime.control import control_pb2_grpc, gate, wire
from ithaca.runtime.control.credentials import Credentials
from ithaca.runtime.control.feed import FeedSlice
from ithaca.runtime.control.roll import Attend, Order
from ithaca.runtime.control.surface import Beat, BeatReply, Fenced, RunStatus
from ithaca.runtime.control.trouble import ControlError, Trouble

_Reply = TypeVar("_Reply")

CLIENT_S = 10.0
"""Deadline of calls from the command line, which does not know the run's ``detect``."""

_OPTIONS = (
    # A proxy of the environment has no business between the parts of a run.
    ("grpc.enable_http_proxy", 0),
    # Else a new client would inherit an old one's back-off after a lost connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", wire.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", wire.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class ControlClient:
    """One connection to a run; made when first used. May be shared by threads.

    Every method raises :class:`ControlError` when the run cannot be reached, refuses the token
    or does not answer in ``timeout_s`` seconds.

    Args:
        address: ``host:port``.
        token: the run's.
        timeout_s: the deadline of each call; a worker takes ``Timeouts.call_s``.
    """

    def __init__(self, address: str, token: str, timeout_s: float = CLIENT_S) -> None:
        self._address = address
        self._metadata = gate.metadata(token)
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        stub: Callable[[Any], Any] = control_pb2_grpc.ControlStub
        self._stub = stub(self._channel)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._channel.close()

    def status(self) -> RunStatus:
        """What the run is doing now."""
        return self._ask(self._stub.Status, pb.StatusRequest(), wire.status_from_message)

    def drain(self, worker: int | None = None) -> bool:
        """Asks the run to finish its step, write a checkpoint and stop.

        With ``worker`` only that one leaves, and the run goes on without it. Returns True if this
        call began it, False if it was under way already.
        """
        request = pb.DrainRequest(worker=worker)
        return self._ask(self._stub.Drain, request, lambda reply: bool(reply.started))

    def inject(self, worker: int, fault: str) -> None:
        """Does ``fault``, in the text form of the drills, to ``worker``."""
        request = pb.InjectRequest(worker=worker, fault=fault)
        self._ask(self._stub.Inject, request, lambda _: None)

    def beat(self, beat: Beat) -> BeatReply:
        """Sends a heartbeat; raises :class:`Fenced` when its generation is over."""
        try:
            return self._ask(self._stub.Beat, wire.beat_to_message(beat), wire.reply_from_message)
        except Fenced as fenced:
            raise Fenced(beat.generation, fenced.generation) from None

    def attend(self, who: Attend) -> Iterator[Order]:
        """Orders for a worker as they come, until the controller ends the stream.

        No deadline: that the connection is lost ends it too.

        Raises:
            Fenced: the worker is no longer part of the run.
        """
        try:
            call = self._stub.Attend(wire.attend_to_message(who), metadata=self._metadata)
        except ValueError as error:
            raise self._unreachable(str(error)) from None
        try:
            for message in call:
                yield wire.order_from_message(message)
        except grpc.RpcError as error:
            trouble = self._trouble(error)
            if isinstance(trouble, Fenced):
                trouble = Fenced(who.generation, trouble.generation)
            raise trouble from None
        except ValueError as error:
            raise ControlError(Trouble.BROKEN, f"the run gave {error}") from None
        finally:
            call.cancel()

    def events(
        self, first: int = 0, follow: bool = True, limit_s: float | None = None
    ) -> Iterator[FeedSlice]:
        """The run's events from number ``first`` on (``-n``: the last n), as they come.

        With ``follow`` until the run has ended, else until now. A slice's ``lost`` tells how many
        lines before it are gone because they are too old or were read too slowly. The stream is
        opened anew after each ``timeout_s``, so that a run that hangs does not go unnoticed.

        Raises:
            ControlError: also, as ``SLOW``, when the run goes on for longer than ``limit_s``.
        """
        end = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left = self._timeout_s if end is None else end - time.monotonic()
            if left <= 0.0:
                raise ControlError(Trouble.SLOW, f"the run did not end within {limit_s:g} s")
            for part in self._window(first, follow, min(left, self._timeout_s)):
                first = part.next
                if part.lines or part.lost or part.ended:
                    yield part
                if part.ended:
                    return
            if not follow:
                return

    def _window(
        self, first: int, follow: bool, window_s: float
    ) -> Generator[FeedSlice, None, None]:
        """One stream of ``window_s`` seconds at most; its first slice may be empty."""
        request = pb.EventsRequest(first=first, follow=follow)
        answered = False
        try:
            call = self._stub.Events(request, timeout=window_s, metadata=self._metadata)
        except ValueError as error:
            raise self._unreachable(str(error)) from None
        try:
            for message in call:
                answered = True
                yield wire.slice_from_message(message)
        except grpc.RpcError as error:
            if not (answered and follow and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED):
                raise self._trouble(error) from None
        finally:
            call.cancel()

    def _ask(
        self,
        method: grpc.UnaryUnaryMultiCallable,
        request: Message,
        read: Callable[[Any], _Reply],
    ) -> _Reply:
        try:
            reply = method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._trouble(error) from None
        except ValueError as error:  # gRPC's word for a closed channel
            raise self._unreachable(str(error)) from None
        try:
            return read(reply)
        except ValueError as error:
            raise ControlError(
                Trouble.BROKEN,
                f"the answer of the run at {self._address} makes no sense here: {error}; "
                f"is it of another version?",
            ) from None

    def _unreachable(self, why: str) -> ControlError:
        return ControlError(
            Trouble.UNREACHABLE,
            f"nothing answers at {self._address} ({why}): the run has ended, or its controller is "
            f"lost, being replaced or out of reach",
        )

    def _trouble(self, error: grpc.RpcError) -> Exception:
        """What to raise for gRPC's ``error``."""
        code, details = error.code(), error.details()
        if code == grpc.StatusCode.FAILED_PRECONDITION:
            trailing = dict(error.trailing_metadata() or ())
            return Fenced(-1, int(trailing.get(wire.GENERATION_KEY, "-1")))
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return self._unreachable(details)
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return ControlError(
                Trouble.REFUSED,
                f"the run at {self._address} refused the token: it is another run's, or of one "
                f"that has ended",
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ControlError(
                Trouble.SLOW,
                f"the run at {self._address} did not answer within {self._timeout_s:g} s; "
                f"its controller may be stopped or overloaded",
            )
        kind = {
            grpc.StatusCode.RESOURCE_EXHAUSTED: Trouble.BUSY,
            grpc.StatusCode.INVALID_ARGUMENT: Trouble.INVALID,
            grpc.StatusCode.UNIMPLEMENTED: Trouble.INVALID,
        }.get(code, Trouble.BROKEN)
        return ControlError(kind, f"the run at {self._address} answered {code.name}: {details}")


def connect(run_folder: Path, timeout_s: float = CLIENT_S) -> ControlClient:
    """A client for the run in ``run_folder``, seen to answer to its token.

    Raises:
        ControlError: the run is not running, or ``control.json`` is left from one that ended
            without removing it.
    """
    credentials = Credentials.read(run_folder)
    client = ControlClient(credentials.address, credentials.token, timeout_s)
    try:
        client.status()
    except ControlError as error:
        client.close()
        if error.trouble not in (Trouble.UNREACHABLE, Trouble.REFUSED):
            raise
        raise ControlError(
            error.trouble,
            f"the run in {run_folder} is not running: {error}. It was process {credentials.pid} "
            f"and left its control.json behind; a new run in this folder replaces that file",
        ) from None
    except BaseException:
        client.close()
        raise
    return client
