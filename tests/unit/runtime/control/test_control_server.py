"""The control plane over a real socket: who gets in, what each call does, and the end of it."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import hmac
import logging
import socket
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import grpc
import pytest

from ithaca.runtime.control import client as client_module
from ithaca.runtime.control import control_pb2 as pb
from ithaca.runtime.control import gate, wire
from ithaca.runtime.control import server as server_module
from ithaca.runtime.control.client import ControlClient
from ithaca.runtime.control.credentials import new_token
from ithaca.runtime.control.feed import EventFeed, FeedSlice
from ithaca.runtime.control.gate import TokenGate
from ithaca.runtime.control.server import MAX_EVENT_STREAMS, ControlServer
from ithaca.runtime.control.surface import Beat, Command, Fenced, Record
from ithaca.runtime.control.trouble import ControlError, Trouble
from ithaca.runtime.errors import UserError

if TYPE_CHECKING:
    from tests.unit.runtime.control.conftest import NotedRun

CALL_S = 10.0
Metadata = tuple[tuple[str, str], ...]
SERVICE = pb.DESCRIPTOR.services_by_name["Control"]
METHODS = [f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods]
UNKNOWN = [f"/{SERVICE.full_name}/Shutdown", "/other.Service/Status"]


def outcome(address: str, path: str, metadata: Metadata) -> grpc.StatusCode:
    """How a bare call of ``path`` with an empty message ends."""
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(address, options=options) as channel:
        call = channel.unary_stream(path)(b"", timeout=CALL_S, metadata=metadata)
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            return error.code()
        return call.code()


def outcomes(address: str, metadata: Metadata) -> set[grpc.StatusCode]:
    return {outcome(address, path, metadata) for path in METHODS + UNKNOWN}


WRONG = {
    "none": (),
    "empty": ((gate.KEY, ""),),
    "no secret": ((gate.KEY, "Bearer "),),
    "another run's": gate.metadata(new_token()),
    "another key": (("token", "x" * 43),),
}


@pytest.mark.parametrize("metadata", WRONG.values(), ids=WRONG.keys())
def test_every_method_is_refused_without_the_token(
    address: str, noted: NotedRun, metadata: Metadata
) -> None:
    assert len(METHODS) == 6
    assert outcomes(address, metadata) == {grpc.StatusCode.UNAUTHENTICATED}
    assert noted.calls == 0


def test_a_stranger_who_never_sends_the_request_is_refused_at_once(
    address: str, noted: NotedRun
) -> None:
    refused = threading.Event()

    def silence() -> Iterator[bytes]:
        refused.wait(CALL_S)
        yield from ()

    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        calls = [channel.stream_stream(METHODS[0])(silence(), timeout=CALL_S) for _ in range(40)]
        assert {call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        refused.set()


def test_a_token_in_part_or_with_more_or_twice_is_refused(address: str, token: str) -> None:
    for near in (token[:-1], token + "x", token.swapcase(), f" {token}"):
        assert outcomes(address, gate.metadata(near)) == {grpc.StatusCode.UNAUTHENTICATED}
    twice = gate.metadata(token) * 2
    assert outcomes(address, twice) == {grpc.StatusCode.UNAUTHENTICATED}


def test_the_oracle_of_refusals_sees_an_open_gate(
    address: str, noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenGate, "admits", lambda _gate, _pairs: True)
    noted.events.close()
    assert outcomes(address, ()) == {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED} | {
        grpc.StatusCode.FAILED_PRECONDITION
    }
    assert noted.calls > 0


def test_an_unknown_method_is_unimplemented_for_those_with_the_token(
    address: str, token: str
) -> None:
    codes = {outcome(address, path, gate.metadata(token)) for path in UNKNOWN}
    assert codes == {grpc.StatusCode.UNIMPLEMENTED}


def test_the_comparison_is_the_constant_time_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    true_compare = hmac.compare_digest

    def noting(a: bytes, b: bytes) -> bool:
        compared.append(True)
        return bool(true_compare(a, b))

    monkeypatch.setattr(hmac, "compare_digest", noting)
    assert not TokenGate("a" * 43).admits(gate.metadata("b" * 43))
    assert compared == [True]


@pytest.mark.parametrize("short", ["", "x" * 31])
def test_a_token_that_is_no_secret_is_not_accepted(noted: NotedRun, short: str) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        ControlServer(noted, short)


def test_after_the_run_the_address_refuses_and_the_token_is_void(
    noted: NotedRun, token: str
) -> None:
    server = ControlServer(noted, token)
    address = server.start()
    with ControlClient(address, token, CALL_S) as client:
        assert client.status().name == "quick"
        server.stop(1.0)
        server.stop(1.0)
        with pytest.raises(ControlError, match="nothing answers") as caught:
            client.status()
        assert caught.value.trouble is Trouble.UNREACHABLE
    host, port = address.rsplit(":", 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=CALL_S)

    successor = ControlServer(noted, new_token(), port=int(port))
    assert successor.start() == address
    with (
        ControlClient(address, token, CALL_S) as client,
        pytest.raises(ControlError, match="refused the token") as caught,
    ):
        client.status()
    assert caught.value.trouble is Trouble.REFUSED
    successor.stop(1.0)


def test_a_taken_port_is_one_clear_error(address: str, noted: NotedRun) -> None:
    with pytest.raises(UserError, match="the port is taken"):
        ControlServer(noted, new_token(), port=int(address.rsplit(":", 1)[1])).start()


@pytest.mark.parametrize("bind", ["10.1.2.3", "192.168.0.1", "2001:db8::1"])
def test_another_interface_needs_the_switch(noted: NotedRun, bind: str) -> None:
    with pytest.raises(ValueError, match=r"control\.expose: true"):
        ControlServer(noted, new_token(), bind=bind)
    ControlServer(noted, new_token(), bind=bind, expose=True)


@pytest.mark.parametrize("bind", ["", "node7", "0.0.0.0", "::", "127.0.0.1:1"])
@pytest.mark.parametrize("expose", [False, True])
def test_what_is_no_single_interface_is_refused(noted: NotedRun, bind: str, expose: bool) -> None:
    with pytest.raises(ValueError, match="binds to"):
        ControlServer(noted, new_token(), bind=bind, expose=expose)


def test_an_exposed_server_says_so_loudly_and_still_wants_the_token(
    noted: NotedRun,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Loopback stands in for the other interface, which not every machine has.
    monkeypatch.setattr(server_module, "_interface", lambda _bind, _expose: ("127.0.0.1", False))
    server = ControlServer(noted, token, bind="10.1.2.3", expose=True)
    with caplog.at_level(logging.WARNING):
        address = server.start()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert address in caplog.text
    assert token not in caplog.text
    assert outcomes(address, ()) == {grpc.StatusCode.UNAUTHENTICATED}
    server.stop(0.0)


def test_on_loopback_nothing_is_logged(
    noted: NotedRun, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = ControlServer(noted, token, bind="localhost")
    assert server.start().startswith("127.0.0.1:")
    server.stop(0.0)
    assert not caplog.records


def test_status_and_drain(address: str, token: str, noted: NotedRun) -> None:
    with ControlClient(address, token, CALL_S) as client:
        assert client.status() == noted.status()
        assert [client.drain() for _ in range(3)] == [True, False, False]


def beat(generation: int, *lines: str) -> Beat:
    records = tuple(Record(number, line) for number, line in enumerate(lines, start=1))
    return Beat(1, "a", generation, 8, "B s1 m0", 0.5, 0, records)


def test_a_beat_arrives_and_brings_back_command_and_generation(
    address: str, token: str, noted: NotedRun
) -> None:
    noted.command = Command.DRAIN
    with ControlClient(address, token, CALL_S) as client:
        reply = client.beat(beat(4, "{}", "[]"))
    assert (reply.command, reply.generation, reply.acknowledged) == (Command.DRAIN, 3, 2)
    assert noted.beats == [beat(4, "{}", "[]")]
    assert noted.lines == ["{}", "[]"]


def test_a_beat_of_an_older_generation_is_refused_and_changes_nothing(
    address: str, token: str, noted: NotedRun
) -> None:
    with ControlClient(address, token, CALL_S) as client:
        with pytest.raises(Fenced, match="the run is in generation 3") as caught:
            client.beat(beat(2, "{}"))
        assert (caught.value.given, caught.value.generation) == (2, 3)
        assert (noted.beats, noted.lines) == ([], [])
        assert client.beat(beat(3, "{}")).acknowledged == 1
    assert noted.lines == ["{}"]


def test_a_beat_that_no_worker_sends_is_invalid_and_a_huge_one_has_no_room(
    address: str, token: str, noted: NotedRun
) -> None:
    with ControlClient(address, token, CALL_S) as client:
        with pytest.raises(ControlError, match="one line") as caught:
            client.beat(beat(3, "{}\n{}"))
        assert caught.value.trouble is Trouble.INVALID
        with pytest.raises(ControlError, match="larger than max") as caught:
            client.beat(beat(3, "x" * (wire.MAX_MESSAGE_BYTES + 1)))
        assert caught.value.trouble is Trouble.BUSY
    assert noted.calls == 0


def test_a_proxy_of_the_environment_is_not_used(
    address: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ControlClient(address, token, CALL_S) as client:
        assert client.status().step == 7
    without = tuple(pair for pair in client_module._OPTIONS if "http_proxy" not in pair[0])
    monkeypatch.setattr(client_module, "_OPTIONS", without)
    with ControlClient(address, token, CALL_S) as client, pytest.raises(ControlError):
        client.status()


def test_events_come_from_a_number_on_and_until_now(
    address: str, token: str, noted: NotedRun
) -> None:
    for number in range(600):
        noted.events.append(f'{{"n": {number}}}')
    with ControlClient(address, token, CALL_S) as client:
        parts = list(client.events(first=-3, follow=False))
        assert [(p.first, p.lines) for p in parts] == [
            (597, ('{"n": 597}', '{"n": 598}', '{"n": 599}'))
        ]
        lines = [line for p in client.events(follow=False) for line in p.lines]
        assert lines == [f'{{"n": {number}}}' for number in range(600)]


def test_events_are_followed_to_the_end_of_the_run(
    address: str, token: str, noted: NotedRun
) -> None:
    noted.events.append("first")
    seen: list[str] = []
    with ControlClient(address, token, CALL_S) as client:
        for part in client.events():
            seen += part.lines
            if part.lines == ("first",):
                noted.events.append("second")
            elif "second" in part.lines:
                noted.events.append("third")
                noted.events.close()
    assert seen == ["first", "second", "third"]


def test_following_goes_on_over_many_short_windows(
    address: str, token: str, noted: NotedRun
) -> None:
    asked: list[int] = []
    read = noted.events.read

    def noting(first: int, *args: float, **kwargs: object) -> object:
        if not args:  # a window begins
            asked.append(first)
            if len(asked) == 3:
                noted.events.append("late")
                noted.events.close()
        return read(first, *args, **kwargs)  # type: ignore[arg-type]

    noted.events.read = noting  # type: ignore[method-assign, assignment]
    with ControlClient(address, token, timeout_s=0.5) as client:
        assert [part.lines for part in client.events()] == [("late",)]
    assert asked == [0, 0, 0]


def test_a_run_that_hangs_does_not_go_unnoticed_by_its_followers(
    address: str, token: str, noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    read = noted.events.read

    def hanging(first: int) -> FeedSlice:
        release.wait(CALL_S)
        return read(first)

    monkeypatch.setattr(noted.events, "read", hanging)
    with (
        ControlClient(address, token, timeout_s=0.2) as client,
        pytest.raises(ControlError, match="did not answer") as caught,
    ):
        next(client.events())
    assert caught.value.trouble is Trouble.SLOW
    release.set()


def test_a_limit_ends_the_following(address: str, token: str) -> None:
    with (
        ControlClient(address, token, CALL_S) as client,
        pytest.raises(ControlError, match="did not end within") as caught,
    ):
        list(client.events(limit_s=0.2))
    assert caught.value.trouble is Trouble.SLOW


@pytest.fixture
def small_feed() -> EventFeed:
    return EventFeed(capacity=8)


def test_a_slow_reader_holds_up_nobody_and_is_told_what_it_lost(
    token: str, noted: NotedRun, small_feed: EventFeed
) -> None:
    noted.events = small_feed
    count = 200
    server = ControlServer(noted, token)
    with ControlClient(server.start(), token, CALL_S) as client:
        parts = client.events()
        noted.events.append("0".ljust(100_000))
        first = next(parts)
        for number in range(1, count):  # the reader sleeps; this must not wait for it
            noted.events.append(f"{number}".ljust(100_000))
        noted.events.close()
        assert client.beat(beat(3)).acknowledged == 0
        rest = list(parts)
    numbers = [int(line) for part in (first, *rest) for line in part.lines]
    lost = sum(part.lost for part in rest)
    assert lost > 0
    assert len(numbers) + lost == count
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == count - 1
    assert rest[-1].ended
    server.stop(1.0)


def test_followers_leave_room_for_beats_and_one_too_many_is_refused(
    address: str, token: str
) -> None:
    clients = [ControlClient(address, token, CALL_S) for _ in range(MAX_EVENT_STREAMS)]
    windows = [client._window(-1, True, CALL_S) for client in clients]
    for window in windows:
        next(window)
    with ControlClient(address, token, CALL_S) as client:
        with pytest.raises(ControlError, match="follow this run's events already") as caught:
            next(client.events())
        assert caught.value.trouble is Trouble.BUSY
        assert client.beat(beat(3)).generation == 3
    for window, follower in zip(windows, clients, strict=True):
        window.close()
        follower.close()


def place(client: ControlClient) -> Generator[FeedSlice, None, None] | None:
    """A window that has begun, or None when there is no place for it."""
    window = client._window(-1, True, CALL_S)
    try:
        next(window)
    except ControlError as error:
        return None if error.trouble is Trouble.BUSY else pytest.fail(str(error))
    return window


def test_a_follower_that_goes_gives_its_place_back(address: str, token: str) -> None:
    with ControlClient(address, token, CALL_S) as client:
        for _ in range(3 * MAX_EVENT_STREAMS):
            # The server sees that the last one went a little after that one did.
            tries = (place(client) for _ in range(2000))
            window = next((window for window in tries if window is not None), None)
            assert window is not None
            window.close()


def test_a_stop_ends_the_streams_with_what_there_was(token: str, noted: NotedRun) -> None:
    server = ControlServer(noted, token)
    with ControlClient(server.start(), token, CALL_S) as client:
        window = client._window(0, True, CALL_S)
        assert next(window).lines == ()
        noted.events.append("last words")
        server.stop(5.0)
        assert [part.lines for part in window] == [("last words",)]


def test_a_controller_that_fails_is_a_clear_error(
    address: str, token: str, noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise KeyError("plan")

    monkeypatch.setattr(noted, "status", broken)
    with (
        ControlClient(address, token, CALL_S) as client,
        pytest.raises(ControlError, match="answered UNKNOWN") as caught,
    ):
        client.status()
    assert caught.value.trouble is Trouble.BROKEN


def test_a_controller_that_hangs_is_noticed_at_the_deadline(
    address: str, token: str, noted: NotedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    status = noted.status()

    def hanging() -> object:
        release.wait(CALL_S)
        return status

    monkeypatch.setattr(noted, "status", hanging)
    with (
        ControlClient(address, token, timeout_s=0.2) as client,
        pytest.raises(ControlError, match=r"did not answer within 0\.2 s") as caught,
    ):
        client.status()
    assert caught.value.trouble is Trouble.SLOW
    release.set()
