"""What the control plane asks of gRPC is something that gRPC knows.

It passes over options whose names it does not know. One of these keeps a stream of orders open on
which nothing is sent for minutes, as in every calm run.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from ithaca.runtime.control import client, server

Options = tuple[tuple[str, int], ...]


def unknown(options: Options) -> set[str]:
    """Names in ``options`` that do not occur in gRPC's own code."""
    core = importlib.import_module("grpc._cython.cygrpc").__file__
    assert core is not None
    known = set(re.findall(rb"grpc\.[a-z0-9_.]+", Path(core).read_bytes()))
    return {name for name, _ in options if name.encode() not in known}


@pytest.mark.parametrize("options", [client._OPTIONS, server._OPTIONS], ids=["client", "server"])
def test_grpc_knows_every_option(options: Options) -> None:
    assert not unknown(options)


def test_a_server_never_counts_the_pings_of_a_quiet_worker() -> None:
    assert dict(server._OPTIONS)["grpc.http2.max_ping_strikes"] == 0


def test_the_oracle_sees_a_name_that_grpc_does_not_know() -> None:
    wrong = "grpc.http2.min_recv_ping_interval_without_data_ms"
    assert unknown((*server._OPTIONS, (wrong, 10_000))) == {wrong}
