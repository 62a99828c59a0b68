"""torchft's lighthouse, until its standard input closes; prints its address.

The settings are those of torchft's README.
"""

from __future__ import annotations

import sys

from torchft.coordination import LighthouseServer  # type: ignore[import-not-found]

HOST = "127.0.0.1"
JOIN_TIMEOUT_MS, TICK_MS = 10_000, 100


def main() -> None:
    """Serve."""
    server = LighthouseServer(
        bind=f"{HOST}:0",
        min_replicas=1,
        join_timeout_ms=JOIN_TIMEOUT_MS,
        quorum_tick_ms=TICK_MS,
    )
    # The address that it gives has this machine's name, which need not lead to where it listens.
    port = server.address().rpartition(":")[2]
    print(f"http://{HOST}:{port}", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
