"""Abandoned groups are kept for a while and then let go by somebody else."""

from __future__ import annotations

import threading
import weakref

from ithaca.runtime.engine.tags import Tags
from ithaca.runtime.engine.wake import WAKE_TAG, Graveyard


class Group:
    """Says which thread ended it."""

    def __init__(self, ended: list[str], all_ended: threading.Event) -> None:
        self._ended, self._event = ended, all_ended

    def __del__(self) -> None:
        self._ended.append(threading.current_thread().name)
        self._event.set()


def test_a_group_rests_before_another_thread_lets_it_go() -> None:
    now = [0.0]
    ended: list[str] = []
    gone = threading.Event()
    yard = Graveyard(10.0, lambda: now[0])
    yard.bury(Group(ended, gone), "its buffers")
    now[0] = 9.0
    yard.bury(object())
    assert (len(yard), ended) == (2, [])
    now[0] = 11.0
    yard.bury(object())
    assert gone.wait(20.0)
    assert len(yard) == 2
    assert ended == ["graveyard"]


def test_nothing_else_keeps_it() -> None:
    gone = threading.Event()
    group = Group([], gone)
    seen = weakref.ref(group)
    yard = Graveyard(0.0, lambda: 0.0)
    yard.bury(group)
    del group
    assert gone.wait(20.0)
    assert seen() is None


def test_nobody_sends_the_tag() -> None:
    assert Tags(num_layers=2000, num_micro_batches=32).ballot < WAKE_TAG
