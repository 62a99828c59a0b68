"""What a workload wants done once before training, on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.farm import farm

Piece = Callable[[], object]


def _do(piece: Piece) -> None:
    piece()  # what it returns stays where it was made


def prepare(cluster: Cluster, pieces: Sequence[Piece]) -> Iterator[int]:
    """Does all pieces; yields how many are done. Where a worker dies, its piece is done again."""
    for done, _ in enumerate(farm(cluster, _do, pieces), 1):
        yield done
