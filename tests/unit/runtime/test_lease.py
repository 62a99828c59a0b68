"""What was given up is nobody's: whichever calls work with it, and however they end."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable

import pytest

from ithaca.runtime import lease as lease_module
from ithaca.runtime.lease import Lease, Use, Vacant


class Hall:
    """Something that calls wait in until it closes."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def wait(self, fails: bool) -> None:
        """Until it is closed; then it may be an error, with another one as its cause."""
        assert self.closed.wait(60)
        if fails:
            try:
                raise ValueError("closed")
            except ValueError as error:
                raise RuntimeError("the call failed") from error

    def close(self) -> float:
        """Everybody out; in so many seconds."""
        self.closed.set()
        return 60.0


def crowd(lease: Lease[Hall], seed: int) -> tuple[bool, bool]:
    """Whether all calls ended in time, and whether the thing is there while errors are kept."""
    draw = random.Random(seed)
    kept: list[BaseException] = []

    def call(fails: bool) -> None:
        try:
            with lease.use() as use:
                use.thing.wait(fails)
        except Exception as error:
            kept.append(error)

    many = [
        threading.Thread(target=call, args=(draw.random() < 0.5,))
        for _ in range(draw.randint(1, 6))
    ]
    for each in many:
        each.start()
    with lease.changed:
        assert lease.changed.wait_for(lambda: lease._calls == len(many), 60)
    assert lease._held is not None
    there = weakref.ref(lease._held)
    ended = lease.give_up(Hall.close)
    answer = there() is not None
    for each in many:
        each.join(60)
        assert not each.is_alive()
    return ended, answer


@pytest.mark.parametrize("seed", range(20))
def test_nothing_refers_to_what_was_given_up(seed: int) -> None:
    lease: Lease[Hall] = Lease("nobody is here")
    lease.hold(Hall())
    assert crowd(lease, seed) == (True, False)


def _none(_: object) -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("owner", "name"), [(Use, "end"), (lease_module, "_forget_locals")], ids=["uses", "errors"]
)
def test_the_oracle_sees_calls_that_keep_it(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controls: what a call or the frames of its error refer to is not let go of."""
    monkeypatch.setattr(owner, name, _none)
    seen = []
    for seed in range(20):
        lease: Lease[Hall] = Lease("nobody is here")
        lease.hold(Hall())
        seen.append(crowd(lease, seed)[1])
    assert any(seen)


def test_who_does_not_end_in_time_is_not_waited_for() -> None:
    lease: Lease[Hall] = Lease("nobody is here")
    hall = Hall()
    lease.hold(hall)
    with lease.use():
        assert not lease.give_up(lambda _: 0.0)
        assert not lease.holds(hall)
    assert lease.give_up(Hall.close)


@pytest.mark.parametrize("first", [lambda lease: None, lambda lease: lease.give_up(Hall.close)])
def test_without_anything_held_there_is_nothing_to_use(
    first: Callable[[Lease[Hall]], object],
) -> None:
    lease: Lease[Hall] = Lease("nobody is here")
    first(lease)
    with pytest.raises(Vacant, match="nobody is here"), lease.use():
        pass
