"""Waking blocked workers: real processes, one of which is killed, stopped, or merely silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import pytest
import torch.distributed as dist

from tests.helpers.gloo_crew import BACKSTOP_S, SIZE, VICTIM

pytestmark = [pytest.mark.xdist_group("wake"), pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
Crew = dict[int, "subprocess.Popen[bytes]"]


def line(process: subprocess.Popen[bytes]) -> str:
    """The next line of a process, within the bound."""
    assert process.stdout is not None
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        assert selector.select(BACKSTOP_S), "a process says nothing"
    return process.stdout.readline().decode().strip()


@contextmanager
def crew(how: str, fate: str, asleep: str = "-") -> Iterator[Crew]:
    """Processes of one group, started; all are gone at the end."""
    store = dist.TCPStore(
        "127.0.0.1", 0, None, True, timeout=timedelta(seconds=60), wait_for_workers=False
    )
    module = "tests.helpers.gloo_crew"
    with ExitStack() as stack:
        processes: Crew = {}
        for rank in range(SIZE):
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(rank), str(store.port), how, fate, asleep],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            processes[rank] = process
        for process in processes.values():
            assert line(process).isdecimal()
        yield processes


def tell(processes: Crew) -> dict[int, str]:
    """Wake all but the victim; the first line of each."""
    survivors = {rank: each for rank, each in processes.items() if rank != VICTIM}
    for process in survivors.values():
        assert process.stdin is not None
        process.stdin.write(b"wake\n")
    return {rank: line(process) for rank, process in survivors.items()}


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
            assert line(processes[rank]) == "dead"
            assert line(processes[rank]) == f"sum {sum(said)}"


def test_without_waking_somebody_stays_blocked() -> None:
    with crew("collective", "stopped", "asleep") as processes:
        assert set(tell(processes).values()) == {"asleep"}
