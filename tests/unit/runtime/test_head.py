"""The head of the cluster is watched by our own means."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from ithaca.runtime.head import HeadWatch

WAIT_S = 20.0


def found(watch: HeadWatch) -> str:
    """What the watch found, at last."""
    watch._threads[0].join(WAIT_S)
    return watch.reason


def test_a_head_that_is_there_is_no_news() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        asked = threading.Semaphore(0)
        watch = HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", 0.1, asked.release)
        watch.daemon_is(os.getpid())
        watch.start()
        for _ in range(5):
            assert asked.acquire(timeout=WAIT_S)
        assert watch.reason == ""
        watch.stop()


def test_a_head_that_is_gone_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
    watch = HeadWatch(address, 0.1, lambda: None)
    watch.start()
    assert found(watch) == "the head of the Ray cluster is gone"
    watch.stop()


def test_a_head_that_does_not_answer_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:

        def hang() -> None:
            raise TimeoutError

        watch = HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", 0.1, hang)
        watch.start()
        assert found(watch) == "the head of the Ray cluster does not answer"
        watch.stop()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_lost_daemon_of_this_node_is_found(stopped: bool) -> None:
    daemon = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with socket.create_server(("127.0.0.1", 0)) as head:
            watch = HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", 0.1, lambda: None)
            watch.daemon_is(daemon.pid)
            daemon.send_signal(19 if stopped else 9)
            watch.start()
            word = "stopped" if stopped else "gone"
            assert found(watch) == f"Ray's daemon on the driver's node is {word}"
            watch.stop()
    finally:
        daemon.kill()
        daemon.communicate(timeout=WAIT_S)
