"""The gRPC server of one run, in front of its controller."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from ithaca.runtime.control import control_pb2 as pb
from ithaca.runtime.control import control_pb2_grpc, wire
from ithaca.runtime.control.gate import TokenGate
from ithaca.runtime.control.surface import ControlSurface, Fenced
from ithaca.runtime.errors import UserError

logger = logging.getLogger(__name__)

MAX_EVENT_STREAMS = 4
MAX_ATTENDING = 4096
"""Workers that may attend at once; a thread stands for each while it does."""
_CALL_THREADS = 8
_WAITING_CALLS = 256
_LOOK_S = 1.0

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", wire.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", wire.MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 32),
    # A worker whose stream of orders is quiet for minutes asks whether the line still stands: its
    # questions must never be counted against it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class ControlServer:
    """Serves a controller's :class:`ControlSurface` to whoever has the token.

    Args:
        surface: the controller.
        token: the run's secret, see :func:`credentials.new_token`.
        bind: address of the interface; this machine's own loopback by default.
        port: 0 for any free one.
        expose: allows another interface than loopback. The connection is not encrypted.

    Raises:
        ValueError: ``bind`` is not loopback and ``expose`` is not given, is no address, or is a
            wildcard that no client could call; the port is out of range; the token is too short.
    """

    def __init__(
        self,
        surface: ControlSurface,
        token: str,
        bind: str = "127.0.0.1",
        port: int = 0,
        expose: bool = False,
    ) -> None:
        self._host, self._loopback = _interface(bind, expose)
        if not 0 <= port <= 65535:
            raise ValueError(f"a port is a number from 0 (any free one) to 65535, not {port}")
        self._port = port
        self._surface = surface
        self._gate = TokenGate(token)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._pool: ThreadPoolExecutor | None = None
        self._server: Any = None

    def start(self) -> str:
        """Begins to serve and returns the address, ``host:port``. A server starts once.

        Raises:
            UserError: the port is taken, or the interface is not there.
        """
        assert self._pool is None, "a control server starts once"
        self._pool = ThreadPoolExecutor(
            max_workers=MAX_EVENT_STREAMS + MAX_ATTENDING + _CALL_THREADS,
            thread_name_prefix="control-plane",
            initializer=lambda: self._threads.append(threading.current_thread()),
        )
        self._server = grpc.server(
            self._pool,
            interceptors=(self._gate,),
            options=_OPTIONS,
            maximum_concurrent_rpcs=MAX_ATTENDING + _WAITING_CALLS,
        )
        add: Callable[[Any, Any], None] = control_pb2_grpc.add_ControlServicer_to_server
        add(_Service(self._surface, self._stopping), self._server)
        wanted = f"{self._host}:{self._port}"
        try:
            port = self._server.add_insecure_port(wanted)
        except RuntimeError:
            port = 0
        if port == 0:
            self._pool.shutdown(wait=False)
            raise UserError(
                f"the control plane could not listen on {wanted}: the port is taken or the "
                f"interface is not on this machine; choose another, or port 0 for any free one"
            )
        self._server.start()
        address = f"{self._host}:{port}"
        if not self._loopback:
            logger.warning(
                "the control plane listens on %s, not on loopback alone: whoever reaches that "
                "address and has the token can watch and stop this run; nothing is encrypted",
                address,
            )
        return address

    def stop(self, grace_s: float) -> None:
        """Closes the port, lets calls end for ``grace_s`` seconds, then cancels them.

        Event streams send what they have and end. Stopping again, or before the start, does
        nothing.
        """
        if self._server is None or self._stopping.is_set():
            return
        assert self._pool is not None
        end = time.monotonic() + grace_s + _LOOK_S
        self._stopping.set()
        self._surface.events.wake()
        self._server.stop(grace_s).wait(grace_s + _LOOK_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join(max(_LOOK_S, end - time.monotonic()))
            if thread.is_alive():
                logger.warning("a call to the controller never ended: %s", thread.name)


class _Service:
    """The methods of the service; names and signatures are gRPC's."""

    def __init__(self, surface: ControlSurface, stopping: threading.Event) -> None:
        self._surface = surface
        self._stopping = stopping
        self._streams = threading.BoundedSemaphore(MAX_EVENT_STREAMS)

    def Status(self, _request: pb.StatusRequest, _context: grpc.ServicerContext) -> pb.StatusReply:
        return wire.status_to_message(self._surface.status())

    def Drain(self, request: pb.DrainRequest, context: grpc.ServicerContext) -> pb.DrainReply:
        if not request.HasField("worker"):
            return pb.DrainReply(started=self._surface.request_drain())
        try:
            return pb.DrainReply(started=self._surface.request_leave(request.worker))
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    def Inject(self, request: pb.InjectRequest, context: grpc.ServicerContext) -> pb.InjectReply:
        try:
            self._surface.inject(request.worker, request.fault)
        except (ValueError, PermissionError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.InjectReply()

    def Beat(self, request: pb.BeatRequest, context: grpc.ServicerContext) -> pb.BeatReply:
        try:
            beat = wire.beat_from_message(request)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            return wire.reply_to_message(self._surface.beat(beat))
        except Fenced as fenced:
            _refuse(fenced, context)
            raise

    def Attend(
        self, request: pb.AttendRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.Order]:
        try:
            post = self._surface.attend(wire.attend_from_message(request))
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Fenced as fenced:
            _refuse(fenced, context)
            raise
        if not context.add_callback(post.leave):
            post.leave()
        context.send_initial_metadata(())
        while context.is_active() and not post.ended and not self._stopping.is_set():
            order = post.take(_LOOK_S)
            if order is not None:
                yield wire.order_to_message(order)

    def Events(
        self, request: pb.EventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EventsChunk]:
        if not self._streams.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_EVENT_STREAMS} clients follow this run's events already",
            )
        try:
            yield from self._chunks(request, context)
        finally:
            self._streams.release()

    def _chunks(
        self, request: pb.EventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EventsChunk]:
        feed = self._surface.events
        end = feed.next
        context.add_callback(feed.wake)
        part = feed.read(request.first)
        yield wire.slice_to_message(part)
        while context.is_active() and not part.ended:
            if part.next >= end and not request.follow:
                return
            leaving = self._stopping.is_set()
            part = feed.read(
                part.next,
                _LOOK_S,
                given_up=lambda: self._stopping.is_set() or not context.is_active(),
            )
            if part.lines or part.lost or part.ended:
                yield wire.slice_to_message(part)
            elif leaving:
                return


def _refuse(fenced: Fenced, context: grpc.ServicerContext) -> None:
    """End a call of somebody who is no longer part of the run, with the run's generation."""
    context.set_trailing_metadata(((wire.GENERATION_KEY, str(fenced.generation)),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(fenced))


def _interface(bind: str, expose: bool) -> tuple[str, bool]:
    """The host as gRPC writes it, and whether it is loopback."""
    name = "127.0.0.1" if bind == "localhost" else bind
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise ValueError(
            f"the control plane binds to the IP address of an interface, not to {bind!r}"
        ) from None
    if address.is_unspecified:
        raise ValueError(
            f"the control plane binds to one interface, not to all ({bind}): name the address at "
            f"which clients will call it, with control.expose: true"
        )
    if not (address.is_loopback or expose):
        raise ValueError(
            f"the control plane binds to loopback; {bind} can be reached from other machines. "
            f"Say control.expose: true if that is wanted"
        )
    return (f"[{address}]" if address.version == 6 else str(address)), address.is_loopback
