"""A crew without processes: workers are standings, and die when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ithaca.recovery.failure import Failure
from ithaca.recovery.standing import Standing
from ithaca.recovery.tally import Tally
from ithaca.runtime.account import Account
from ithaca.runtime.brain import Brain
from ithaca.runtime.config.load import load
from ithaca.runtime.control.feed import EventFeed
from ithaca.runtime.control.roll import Roll
from ithaca.runtime.crew import Crew, Silence
from ithaca.runtime.detector import Detector
from ithaca.runtime.engine.drive import ChannelFailed
from ithaca.runtime.events import Event
from ithaca.runtime.front import Desk
from ithaca.runtime.journal import Journal
from ithaca.runtime.keeper import Keeper
from ithaca.runtime.ledger import Ledger
from ithaca.runtime.membership import Membership
from ithaca.runtime.mission import Mission
from ithaca.runtime.notes import Mailbox
from ithaca.runtime.orders import Deployment, Facts
from ithaca.runtime.preview import preview
from ithaca.runtime.recorder import Recorder
from ithaca.runtime.recovery_run import Recovery, Ways
from ithaca.runtime.run import Start, mission_of
from ithaca.runtime.states import Life
from ithaca.runtime.timeouts import Timeouts
from tests.helpers.real_job import write_job

TALLY = Tally(True, False, 64, 8, 2.5, 0.0, 1.0, True, "")
PLACES = {0: "a", 1: "a", 2: "b", 3: "b", 4: "c"}


class Clock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Answered:
    """A call whose answers are known; who is missing never answers."""

    known: dict[int, Any]
    asked: frozenset[int]
    clock: Clock

    @property
    def waiting(self) -> frozenset[int]:
        return self.asked - self.known.keys()

    def poll(self, bound_s: float) -> dict[int, Any]:
        if self.waiting:
            self.clock.now += bound_s
        return dict(self.known)


@dataclass
class FakeCrew:
    """Standings by worker.

    Attributes:
        standings: of those that live.
        before: called before each call, with its name; may let somebody die or fall silent.
        silent: workers that do not answer.
        late: workers that do not adopt, but tell their stacks.
        unmet: calls of adopt that end without a meeting although nobody is lost.
        broken: pairs of workers that do not reach each other.
        deployed: what was adopted, by worker, newest last.
        killed: in order.
    """

    clock: Clock
    standings: dict[int, Standing]
    before: Callable[[str], None] = lambda _: None
    silent: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    unmet: int = 0
    broken: set[frozenset[int]] = field(default_factory=set)
    deployed: list[Mapping[int, Deployment]] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)

    def stand(self, workers: Iterable[int], generation: int) -> Answered:
        self.before("stand")
        return self._ask(workers, lambda worker: self.standings[worker])

    def adopt(self, deployments: Mapping[int, Deployment]) -> Answered:
        self.before("adopt")
        self.deployed.append(deployments)
        lost = [w for w in deployments if w not in self.standings or w in self.silent]
        unmet, self.unmet = bool(self.unmet), max(0, self.unmet - 1)

        def enter(worker: int) -> object:
            if any(worker in pair and pair <= deployments.keys() for pair in self.broken):
                return Silence("no connection", error=ChannelFailed("meet", "timed out"))
            if lost or unmet:
                return Silence("somebody did not come", error=RuntimeError("meet"))
            orders = deployments[worker].orders
            held = orders.plan.held(worker) if worker in orders.plan.workers else ()
            now = self.standings[worker]
            self.standings[worker] = Standing(
                worker, orders.plan.generation, orders.step, frozenset(held), tally=now.tally,
                validated=now.validated,
            )  # fmt: skip
            return True

        return self._ask(deployments, enter, self.late)

    def dump(self, workers: Iterable[int]) -> Answered:
        return self._ask(workers, lambda worker: f"stacks of {worker}")

    def kill(self, worker: int) -> None:
        self.killed.append(worker)
        self.standings.pop(worker, None)

    def _ask(
        self,
        workers: Iterable[int],
        answer: Callable[[int], object],
        late: Collection[int] = (),
    ) -> Answered:
        known = {
            worker: answer(worker) if worker in self.standings
            else Silence("its process died", dead=True)
            for worker in workers
            if worker not in self.silent and worker not in late
        }  # fmt: skip
        return Answered(known, frozenset(workers), self.clock)


class Bench:
    """A recovery with all that is around it, on a fake crew; 2 x 2 workers and a spare."""

    def __init__(self, folder: Path, spares: int = 0, **changes: Any) -> None:  # noqa: ANN401
        self.clock = Clock()
        self.mission = mission(folder, spares, **changes)
        plan = self.mission.plan
        self.crew = FakeCrew(
            self.clock,
            {
                worker: Standing(
                    worker, 0, 3, frozenset(plan.held(worker) if worker in plan.workers else ()),
                    tally=TALLY, validated=3,
                )
                for worker in range(4 + spares)
            },
        )  # fmt: skip
        self.events: list[Event] = []
        self.found: list[Failure] = []
        self.trained: list[set[int]] = []
        facts = facts_of(4 + spares)
        recorder = Recorder(
            self.mission, self.events.append, Ledger(3, (), 24), lambda *_: None,
            lambda _: None, lambda _: None, lambda _: None, lambda _: 1e-2,
        )  # fmt: skip
        self.detector = Detector(
            2.0, 0.5, self.clock, lambda w: facts[w].node, lambda w: facts[w].place
        )
        self.members = Membership(plan, facts)
        self.desk = Desk(
            self.mission, facts, self.members, recorder,
            Keeper(self.mission, lambda *_: None, self.events.append),
            self.detector, Mailbox(), Life(), EventFeed(),
        )  # fmt: skip
        self.journal = Journal(self.mission.folder, "bench", warn=lambda _: None)
        self.journal.open()
        self.brain = Brain(
            self.mission, lambda: recorder.profile, lambda w: facts[w].place, self.clock
        )
        self.account = Account(self.clock, lambda: recorder.profile, None)
        self.recovery = Recovery(
            self.desk, self.crew, Roll(lambda _: None), self.brain, self.journal,
            self.account, Timeouts.from_detect(2.0),
            Ways(self._look, lambda workers: self.trained.append(set(workers)), lambda _: None),
        )  # fmt: skip

    def told(self, kind: type[Event]) -> list[Any]:
        """Events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def lose(self, *workers: int) -> None:
        """Let workers die; the detector has not heard of it."""
        for worker in workers:
            self.crew.standings.pop(worker, None)

    def _look(self) -> tuple[Failure, ...]:
        found, self.found = tuple(self.found), []
        return found


def mission(folder: Path, spares: int, **changes: Any) -> Mission:  # noqa: ANN401
    """Of a small job on two pipelines of two stages."""
    layout = {"pipelines": 2, "stages": 2}
    loaded = load(write_job(folder / "jobs", layout=layout, steps=20, **changes))
    run = folder / "run"
    run.mkdir(exist_ok=True)
    return mission_of(Start(loaded, preview(loaded), run), Crew({}, facts_of(4 + spares), 1.0))


def facts_of(number: int) -> dict[int, Facts]:
    """Of workers on three nodes of one machine."""
    import socket

    return {
        worker: Facts(
            socket.gethostname(), "127.0.0.1", 1000 + worker, "cpu", "2", 1, PLACES[worker],
            7000 + worker,
        )
        for worker in range(number)
    }  # fmt: skip
