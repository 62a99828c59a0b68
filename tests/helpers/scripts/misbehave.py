"""Fails, hangs or kills on purpose; each way is an argument."""

import os
import signal
import socket
import subprocess
import sys
import time

RANK = int(os.environ["RANK"])
ATTEMPT = int(os.environ["TORCHELASTIC_RESTART_COUNT"])


def wait_for_the_end() -> None:
    """Runs until somebody ends it, with a child."""
    child = subprocess.Popen(["sleep", "1000"])
    print(f"up {os.getpid()} {child.pid}", flush=True)
    while True:
        time.sleep(1)


def meet() -> None:
    """Returns when rank 0 and rank 1 are both here: they use the address they were given."""
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if RANK == 0:
        with socket.create_server(address) as server:
            server.accept()
        return
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(address).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def fail_inside() -> None:
    """The frame that the traceback must show."""
    raise ValueError("the first cause")


def main() -> None:
    mode = sys.argv[1]
    print(f"begin {RANK} {ATTEMPT} {os.environ['MASTER_PORT']}", flush=True)
    if mode.startswith("raise"):
        meet()
    if mode == "raise" and RANK == 1:
        fail_inside()
    if mode == "raise-once" and RANK == 1 and ATTEMPT == 0:
        fail_inside()
    if mode == "kill-agent-once" and RANK == 0 and ATTEMPT == 0:
        os.kill(os.getppid(), signal.SIGKILL)
    if mode == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode in ("raise", "wait", "stubborn"):
        wait_for_the_end()
    print(f"end {RANK}", end="")


if __name__ == "__main__":
    main()
