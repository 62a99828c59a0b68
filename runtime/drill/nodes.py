"""A Ray cluster of several nodes on this machine, so that a drill can take one away.

``python -m ithaca.runtime.drill.nodes NODES SLOTS`` prints the cluster's address and keeps it until
its standard input ends. The head has no room for workers: they are spread over the others.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from ithaca.runtime.cluster import SLOT

_HEALTH = {
    # Ray's own defaults take 13 s to see that a daemon died; workers are watched by us.
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


def start(nodes: int, slots: int) -> Any:  # noqa: ANN401 - Ray's cluster
    """A head without slots and ``nodes`` nodes that have room for ``slots`` workers together."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "_system_config": _HEALTH,
        },
    )
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, resources={SLOT: math.ceil(slots / nodes)})
    return cluster


def main(nodes: int, slots: int) -> None:
    """Print the address, then wait for the end of the input."""
    cluster = start(nodes, slots)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
