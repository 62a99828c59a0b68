"""Waking blocked workers: real processes, one of which is killed, stopped, or merely silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest
import torch.distributed as dist

from tests.helpers.gloo_crew import BACKSTOP_S, SIZE, VICTIM, main

pytestmark = [pytest.mark.xdist_group("wake"), pytest.mark.timeout(240)]

Crew = dict[int, Connection]
"""How to talk to each process."""


def answer(process: Connection) -> object:
    """The next word of a process, within the bound."""
    assert process.poll(BACKSTOP_S), "a process says nothing"
    return process.recv()


@contextmanager
def crew(how: str, fate: str, asleep: bool = False) -> Iterator[Crew]:
    """Processes of one group, started; all are gone at the end."""
    store = dist.TCPStore(
        "127.0.0.1", 0, None, True, timeout=timedelta(seconds=60), wait_for_workers=False
    )
    # One process has imported torch; all others are forked from it.
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "ithaca.runtime.engine.wake"])
    with ExitStack() as stack:
        crew: Crew = {}
        for rank in range(SIZE):
            crew[rank], theirs = context.Pipe()
            words = (rank, store.port, how, fate, asleep, theirs)
            process = context.Process(target=main, args=words, daemon=True)
            process.start()
            theirs.close()
            stack.enter_context(crew[rank])
            stack.callback(process.join, BACKSTOP_S)
            stack.callback(process.kill)
        for each in crew.values():
            assert isinstance(answer(each), int)
        yield crew


def tell(crew: Crew) -> dict[int, str]:
    """Wake all but the victim; the first word of each."""
    survivors = {rank: each for rank, each in crew.items() if rank != VICTIM}
    for each in survivors.values():
        each.send("wake")
    return {rank: str(answer(each)) for rank, each in survivors.items()}


@pytest.mark.parametrize(
    ("how", "fate"),
    [
        ("collective", "killed"),
        ("collective", "stopped"),
        ("point-to-point", "stopped"),
        ("point-to-point", "alive"),
    ],
)
def test_every_blocked_wait_ends_and_the_survivors_meet_again(how: str, fate: str) -> None:
    with crew(how, fate) as processes:
        said = tell(processes)
        assert all(text.startswith("woken ") for text in said.values()), said
        for rank in said:
            assert answer(processes[rank]) == "dead"
            assert answer(processes[rank]) == f"sum {sum(said)}"


def test_without_waking_somebody_stays_blocked() -> None:
    with crew("collective", "stopped", asleep=True) as processes:
        assert set(tell(processes).values()) == {"asleep"}
