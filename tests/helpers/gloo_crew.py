"""Small processes around one gloo group, some of which end badly, and a parent that looks on."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from ithaca.runtime.engine.wake import Graveyard, wake

SIZE, VICTIM, BACKSTOP_S = 4, 1, 60.0


def group_of(store: dist.Store, name: str, rank: int, size: int) -> Any:  # noqa: ANN401
    """A gloo group whose own timeout is far longer than the test."""
    return dist.ProcessGroupGloo(
        dist.PrefixStore(name, store), rank, size, timedelta(seconds=BACKSTOP_S)
    )


def wait_for_ever(group: Any, rank: int, how: str) -> None:  # noqa: ANN401
    """Until an error: all at the victim's mercy, some through others."""
    content = torch.ones(1000)
    while True:
        if how == "collective":
            group.allreduce([content]).wait()
        else:
            if rank > 0:
                group.recv([content], rank - 1, 0).wait()
            if rank < SIZE - 1:
                group.send([content], rank + 1, 0).wait()
            if rank == VICTIM:
                return


def end(fate: str) -> None:
    """What becomes of the victim."""
    if fate == "alive":
        threading.Event().wait(BACKSTOP_S)
    os.kill(os.getpid(), signal.SIGKILL if fate == "killed" else signal.SIGSTOP)


def main(rank: int, port: int, how: str, fate: str, asleep: bool, parent: Connection) -> None:
    """One process; tells its number, waits for a word, and then tells how it was woken."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, None, False, timeout=timedelta(seconds=BACKSTOP_S))
    group = group_of(store, "first", rank, SIZE)
    group.allreduce([torch.ones(1)]).wait()
    parent.send(os.getpid())
    if rank == VICTIM:
        end(fate)
    errors: list[str] = []
    engine = threading.Thread(target=blocked, args=(group, rank, how, errors), daemon=True)
    engine.start()
    parent.recv()
    began = time.monotonic()
    if not asleep:
        wake(group, rank, SIZE)
        engine.join(BACKSTOP_S / 2)
    woken_s = time.monotonic() - began
    parent.send("asleep" if engine.is_alive() else f"woken {woken_s:.3f} {errors[0][:90]}")
    if engine.is_alive():
        os._exit(0)
    again(store, group, rank, parent)
    os._exit(0)


def blocked(group: Any, rank: int, how: str, errors: list[str]) -> None:  # noqa: ANN401
    """The engine's thread."""
    try:
        wait_for_ever(group, rank, how)
    except RuntimeError as error:
        errors.append(str(error).replace("\n", " "))


def again(store: dist.Store, old: Any, rank: int, parent: Connection) -> None:  # noqa: ANN401
    """The old group stays dead, and the survivors meet in a new one."""
    survivors = [other for other in range(SIZE) if other != VICTIM]
    try:
        old.recv([torch.ones(1)], (rank + 1) % SIZE, 3).wait()
        parent.send("the old group still works")
    except RuntimeError:
        parent.send("dead")
    yard = Graveyard(rest_s=0.0)
    yard.bury(old)
    new = group_of(store, "second", survivors.index(rank), len(survivors))
    total = torch.tensor([float(rank)])
    new.allreduce([total]).wait()
    parent.send(f"sum {total.item():g}")
    # Nobody closes before everybody has read.
    new.barrier().wait()
