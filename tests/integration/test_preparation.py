"""Preparation on the cluster: workers that are killed in the middle change no byte."""

from __future__ import annotations

import os
import signal
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import ray

from ithaca.runtime.cluster import Cluster
from ithaca.runtime.farm import farm
from ithaca.runtime.preparation import Piece, prepare
from ithaca.workloads.csgnn import store
from ithaca.workloads.csgnn.generated import walks
from ithaca.workloads.csgnn.structure import ProfileShape

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

SHAPE = ProfileShape(4, 8)


def searches(cache: Path) -> list[store.Block]:
    """Eight blocks of graphs."""
    return list(store.blocks(walks(64, 16, "graph").graphs, SHAPE, 8))


def digests(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def killed_once(marker: Path, before: bool, piece: Piece) -> object:
    """``piece`` in a worker that is killed the first time, before it or just behind it."""
    first = not marker.exists()
    if first and before:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    done = piece()
    if first:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return done


def test_killed_workers_change_no_byte(ray_cluster: Cluster, tmp_path: Path) -> None:
    alone, together, marks = (tmp_path / name for name in ("alone", "together", "marks"))
    marks.mkdir()
    blocks = searches(alone)
    for block in blocks:
        store.ensure(block, alone)
    pieces: list[Piece] = [partial(store.ensure, block, together) for block in blocks]
    for number, before in ((1, True), (4, False)):
        pieces[number] = partial(killed_once, marks / str(number), before, pieces[number])
    assert list(prepare(ray_cluster, pieces)) == list(range(1, 9))
    assert len(list(marks.iterdir())) == 2
    assert digests(together) == digests(alone)


def test_what_is_there_is_not_searched_again(ray_cluster: Cluster, tmp_path: Path) -> None:
    blocks = searches(tmp_path)
    for block in blocks[:3]:
        store.ensure(block, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    list(prepare(ray_cluster, [partial(store.ensure, block, tmp_path) for block in blocks]))
    assert len(list(tmp_path.iterdir())) == 8
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def square(number: int) -> int:
    """Fails for 3."""
    if number == 3:
        raise ValueError("three")
    return number * number


def test_answers_come_with_their_numbers(ray_cluster: Cluster) -> None:
    assert dict(farm(ray_cluster, square, [2, 5, 7])) == {0: 4, 1: 25, 2: 49}
    assert list(farm(ray_cluster, square, [])) == []


def test_an_error_of_a_job_is_raised(ray_cluster: Cluster) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="three"):
        list(farm(ray_cluster, square, [1, 3]))
