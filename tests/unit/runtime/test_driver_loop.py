"""The driver and its controller: introduced, replaced when it hangs, and never left without one.

The controller is a script of answers; time passes when the driver waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import pytest

from ithaca.runtime import driver as driver_module
from ithaca.runtime.agency import Agency, Hired
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.controller_process import Pulse
from ithaca.runtime.crew import Crew
from ithaca.runtime.driver import Driver
from ithaca.runtime.errors import UserError
from ithaca.runtime.events import Event, RunEnded, Warned
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import HeadLost
from ithaca.runtime.seat import Seat
from tests.helpers.fake_crew import facts_of
from tests.helpers.fake_crew import mission as mission_of

END = RunEnded(time_s=0.0, outcome="finished", step=20, reason="", state_hash=None)
DETECT_S, LOOK_S = 2.0, 0.05
Script = Iterator[Pulse | float | None]


def pulse(
    pid: int = 7,
    end: RunEnded | None = None,
    wanted: int = 0,
    **more: Any,  # noqa: ANN401 - the other fields
) -> Pulse:
    """A controller's answer."""
    return Pulse(pid, 1, wanted, more.pop("said", ()), end, **more)


@dataclass
class World:
    """All that the driver can reach.

    Attributes:
        script: what the controller answers; a number of seconds for none in that time, None for
            a call that failed because its process is gone.
        calls: of the controller, by name, but for its pulse.
        runs: that calls of the controller were about.
        ended: how often the process of controllers was ended.
    """

    script: Script
    now: float = 100.0
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    ended: int = 0
    killed: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    begun: int = 0
    dismissed: list[int] = field(default_factory=list)
    arrivals: list[Hired] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    reason: str = ""
    last: list[list[object]] = field(default_factory=list)
    _due_s: float | None = None
    _answer: object = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a method of Ray's handle
        def remote(*given: object) -> object:
            if name == "pulse":
                self.asked.append(cast("int", given[1]))
            else:
                self.calls.append((name, given))
            run = given[0].run if isinstance(given[0], Mission) else given[0]
            self.runs.add(cast("str", run))
            return object()

        return SimpleNamespace(remote=remote)

    def finished(self, _futures: object, bound_s: float) -> bool:
        """Whether the controller has answered; waits at most ``bound_s``."""
        if self._due_s is None:
            said = next(self.script)
            waits_s = said if isinstance(said, float) else 0.0
            self._due_s, self._answer = self.now + waits_s, said
        if self.now >= self._due_s:
            self._due_s = None
            return not isinstance(self._answer, float)
        self.now += bound_s
        return False

    def result(self, _future: object) -> object:
        """Of the call that has ended."""
        return RuntimeError("its process died") if self._answer is None else self._answer

    def take(self) -> World:
        """As a seat: the process of controllers."""
        return self

    def close(self) -> None:
        """As a seat: end that process."""
        self.ended += 1

    def count(self, name: str) -> int:
        """How often the controller was called so."""
        return sum(called == name for called, _ in self.calls)


class Made:
    """A driver in a world."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: Script, keep: bool
    ) -> None:
        self.world = world = World(script)
        monkeypatch.setattr(driver_module, "finished", world.finished)
        monkeypatch.setattr(driver_module, "result", world.result)
        clock = SimpleNamespace(monotonic=lambda: world.now, time=lambda: world.now)
        monkeypatch.setattr(driver_module, "time", clock)
        system = SimpleNamespace(kill=lambda pid, _: world.killed.append(pid))
        monkeypatch.setattr(driver_module, "os", system)
        monkeypatch.setattr(driver_module, "HeadWatch", self._head)
        monkeypatch.setattr(driver_module, "Office", self._office)
        seat = cast("Seat", world)
        monkeypatch.setattr(driver_module, "Seat", lambda _: seat)
        agency = SimpleNamespace(
            begin=self._begin, arrived=self._arrived, end=world.dismissed.extend
        )
        crew = Crew(dict.fromkeys(range(2), "handle"), dict(list(facts_of(2).items())), 1.0)
        self.mission = mission_of(folder, 0, detect=f"{DETECT_S:g}s")
        self.driver = Driver(
            self.mission, cast("Cluster", SimpleNamespace(address="", probe=None)),
            cast("Agency", agency), crew, [world.heard.append],
            seat if keep else None,
        )  # fmt: skip

    def _begin(self) -> int:
        self.world.begun += 1
        return 4 + self.world.begun

    def _arrived(self) -> list[Hired]:
        arrived, self.world.arrivals = self.world.arrivals, []
        return arrived

    def _head(self, *_: object) -> object:
        world = self.world

        class Head:
            def start(self) -> None: ...

            def stop(self) -> None: ...

            def daemon_is(self, daemon: int) -> None: ...

            @property
            def reason(self) -> str:
                return world.reason

        return Head()

    def _office(self, *_: object) -> object:
        notes: list[object] = []
        self.world.last.append(notes)
        return SimpleNamespace(put=notes.append, work=lambda: END)


class Make(Protocol):
    """Makes a driver, perhaps with a process of controllers that is kept for the next run."""

    def __call__(self, script: Script, keep: bool = False) -> Made: ...


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda script, keep=False: Made(tmp_path, monkeypatch, script, keep)


def test_a_controller_is_introduced_once_and_its_successor_again(make: Make) -> None:
    made = make(iter([pulse(7), pulse(7), None, pulse(8), pulse(8, END)]))
    assert made.driver.run() == END
    assert made.world.count("begin") == 2
    for name, given in made.world.calls:
        if name == "begin":
            assert given[0] is made.mission
            assert given[3:] == ("handle", "handle")


@pytest.mark.parametrize("keep", [False, True])
def test_the_process_is_kept_for_the_next_run_where_it_was_lent(make: Make, keep: bool) -> None:
    made = make(iter([pulse(7), pulse(7, END)]), keep)
    made.driver.run()
    assert made.world.ended == (0 if keep else 1)
    assert made.world.runs == {made.mission.run}


@pytest.mark.parametrize("keep", [False, True])
def test_the_process_is_not_kept_while_a_controller_may_work_in_it(make: Make, keep: bool) -> None:
    def script() -> Script:
        yield pulse(7)
        raise KeyboardInterrupt

    made = make(script(), keep)
    with pytest.raises(KeyboardInterrupt):
        made.driver.run()
    assert made.world.ended == 1


def test_one_that_hangs_is_ended_so_that_another_can_begin(make: Make) -> None:
    made = make(iter([pulse(7), DETECT_S + 1.0, pulse(8), pulse(8, END)]))
    made.driver.run()
    assert made.world.killed == [7]
    assert made.world.count("begin") == 2


def test_one_that_is_late_but_not_too_late_is_left_alone(make: Make) -> None:
    made = make(iter([pulse(7), DETECT_S - 0.5, pulse(7), pulse(7, END)]))
    made.driver.run()
    assert made.world.killed == []


def test_what_the_driver_slept_through_is_not_held_against_it(make: Make) -> None:
    def script() -> Script:
        yield pulse(7)
        yield 0.1
        made.world.now += 60.0  # the driver itself was stopped
        yield 0.5
        yield pulse(7)
        yield pulse(7, END)

    made = make(script())
    made.driver.run()
    assert made.world.killed == []


def test_one_that_has_never_answered_is_waited_for(make: Make) -> None:
    made = make(iter([60.0, pulse(7), pulse(7, END)]))
    made.driver.run()
    assert made.world.killed == []


def test_who_is_wanted_is_hired_once_and_introduced_to_every_controller(make: Make) -> None:
    newcomer = Hired(5, "its handle", facts_of(1)[0], "")

    def script() -> Script:
        yield pulse(7, wanted=2)
        made.world.arrivals = [newcomer]
        yield pulse(7, wanted=2)
        yield None
        yield pulse(8, wanted=2)
        yield pulse(8, END, wanted=2)

    made = make(script())
    made.driver.run()
    assert made.world.begun == 2
    joined = [given for name, given in made.world.calls if name == "joined"]
    assert joined == [(made.mission.run, 5, "its handle", newcomer.facts, "")] * 2


@pytest.mark.parametrize(
    "end", [pulse(7, END, wanted=2), pulse(7, refused="its layers fit nowhere", wanted=2)]
)
def test_who_was_begun_is_ended_with_the_run_whether_it_came_or_not(make: Make, end: Pulse) -> None:
    """It would come up in a later run, which knows nothing of it."""

    def script() -> Script:
        yield pulse(7, wanted=1)
        made.world.arrivals = [Hired(5, "its handle", facts_of(1)[0], "")]
        yield pulse(7, wanted=2)
        yield end

    made = make(script())
    with suppress(UserError):
        made.driver.run()
    assert made.world.dismissed == [5, 6]


def test_a_wish_to_drain_reaches_every_controller_once(make: Make) -> None:
    def script() -> Script:
        yield pulse(7)
        made.driver.request_drain()
        yield pulse(7)
        yield pulse(7)
        yield None
        yield pulse(8)
        yield pulse(8, END)

    made = make(script())
    made.driver.run()
    assert made.world.count("request_drain") == 2


def test_the_loss_of_the_head_reaches_every_controller_once(make: Make) -> None:
    def script() -> Script:
        yield pulse(7)
        made.world.reason = "the head is gone"
        yield pulse(7)
        yield pulse(7)
        yield pulse(7, END)

    made = make(script())
    made.driver.run()
    assert [given for name, given in made.world.calls if name == "head_lost"] == [
        (made.mission.run, "the head is gone")
    ]
    assert made.world.last == []


def test_without_a_head_and_a_controller_the_driver_is_the_last_one(make: Make) -> None:
    def script() -> Script:
        yield pulse(7)
        made.world.reason = "the head is gone"
        yield None

    made = make(script())
    assert made.driver.run() == END
    assert made.world.last == [[HeadLost("the head is gone")]]


def test_a_warning_that_the_log_cannot_take_is_told_once(make: Make) -> None:
    answers = [pulse(7, said=("no space",)), pulse(7), pulse(7, END, said=("again",))]
    made = make(iter(answers))
    made.driver.run()
    told = [event.message for event in made.world.heard if isinstance(event, Warned)]
    assert told == ["no space", "again"]
    assert made.world.asked == [0, 1, 1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pulse(7, refused="a worker cannot take its part"), UserError),
        (pulse(7, broken="Traceback ..."), RuntimeError),
    ],
)
def test_a_controller_that_cannot_go_on_ends_the_run(
    make: Make, answer: Pulse, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"take its part|the controller broke"):
        make(iter([pulse(7), answer])).driver.run()


def test_the_oracle_sees_a_driver_that_ends_whoever_is_late(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        driver_module.Timeouts,  # type: ignore[attr-defined]
        "from_detect",
        lambda _: SimpleNamespace(suspect_s=0.2, grace_s=1.0),
    )
    with pytest.raises(AssertionError):
        test_one_that_is_late_but_not_too_late_is_left_alone(make)
