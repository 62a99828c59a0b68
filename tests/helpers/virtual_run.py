"""A whole run in one thread, with failures: the protocol of a recovery without processes.

The controller here does what the real one does, through the same functions: it stops everybody,
asks for standings, decides, and gives orders. Workers can be killed at every point of the
protocol, and the controller can be lost between any two of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, TypeVar

from torch import Tensor

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.planner.program import Commit, Compute, Step
from ithaca.recovery.decide import Decision, decide
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.moves import moves
from ithaca.recovery.orders import Orders
from ithaca.recovery.regroup import at_once, current, regroup
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Rounds, Situation
from ithaca.recovery.tally import Tally
from ithaca.runtime.engine.stepper import Stepper
from ithaca.runtime.engine.steps import After, Before, Point, Request, Steps
from ithaca.runtime.engine.virtual import Address, Verdict, VirtualCluster

S = TypeVar("S", bound=Stepper)
Hashes = dict[int, str]


class Phase(Enum):
    """Where in a recovery the controller, or a worker, can be lost."""

    STAND = "stand"
    DECIDE = "decide"
    ADOPT = "adopt"


class Lost(RuntimeError):
    """The run cannot go on; the reason is the refusal's."""


@dataclass
class Faults:
    """What goes wrong, and when; by default nothing.

    Attributes:
        point: told every request of every worker, with the number of the step in the making.
        phase: told every phase of every recovery and the workers that are left; which die there.
        restart: told every phase; whether the controller is lost there.
        stops: ``point`` may stop everybody although nobody is lost: a false alarm.
    """

    point: Callable[[int, int, Request], Verdict] = lambda *_: Verdict.GO_ON
    phase: Callable[[Phase, tuple[int, ...]], frozenset[int]] = lambda *_: frozenset()
    restart: Callable[[Phase], bool] = lambda _: False
    stops: bool = False


@dataclass
class VirtualRun(Generic[S]):
    """Steppers of a plan under faults.

    Attributes:
        steppers: of everybody who lives, by worker.
        plan: in force.
        results: per step, the hash of every layer; checked equal on all holders.
        tallies: per step, what all agreed on.
        redone: what a recovery let others compute again.
        dead: who was killed in the last generation.
        stood: what survivors said, every time that they were asked.
        recoveries: how many there were.
        rollbacks: how many of them went back to a checkpoint.
    """

    make: Callable[[int, tuple[int, ...]], S]
    plan: Plan
    profile: Profile
    faults: Faults = field(default_factory=Faults)
    delay: Callable[[Address], float] = lambda _: 0.0
    cost: Callable[[int, Point], float] = lambda *_: 0.0
    ties: tuple[tuple[int, int], ...] = ()
    split: tuple[bool, ...] | None = None
    hashes: Callable[[S], Hashes] = lambda s: s.hashes()  # type: ignore[attr-defined]
    choose: Callable[[Situation], Decision] = lambda s: decide(s, Hazard())
    save_every: int = 2

    def __post_init__(self) -> None:
        self.steppers = {w: self.make(w, self.plan.held(w)) for w in self.plan.workers}
        self.results: dict[int, Hashes] = {}
        self.tallies: dict[int, Tally] = {}
        self.redone: list[Compute] = []
        self.dead: set[int] = set()
        self.stood: list[dict[int, Standing]] = []
        self.recoveries = 0
        self.rollbacks = 0
        self._checkpoints: dict[int, dict[int, dict[str, Tensor]]] = {}
        self._generation = self.plan.generation
        self._pending: Rounds = ()
        self._next: tuple[Plan, Rounds] | None = None

    def run(self, steps: int) -> None:
        """Until ``steps`` steps are committed everywhere; ``Lost`` if that is impossible."""
        orders = self._orders(self.plan, ())
        while True:
            if self._live(orders, steps):
                if all(self.steppers[worker].step >= steps for worker in self.plan.workers):
                    return
                orders = self._boundary()
            else:
                orders = self._recover()

    def spares(self, worker: int) -> bool:
        """Whether every layer has a holder beside ``worker`` that lives."""
        gone = self.dead | {worker}
        there = self.steppers.keys() & set(self.plan.workers) - gone
        others = [self.steppers[worker].held() for worker in there]
        return len(frozenset[int]().union(*others)) == self.plan.num_layers

    # -- a generation

    def _live(self, orders: Mapping[int, Orders], steps: int) -> bool:
        """Run a generation; whether it came to its end without a loss."""
        everybody = tuple(orders)
        self.plan = next(iter(orders.values())).plan
        cluster = VirtualCluster(everybody, self.delay, self.cost)
        for worker, order in orders.items():
            self.steppers[worker].join(order, worker, cluster.channel(worker))
        engines = {w: self._life(w, order, steps) for w, order in orders.items()}
        self.dead = dead = set[int]()

        def watch(worker: int, request: Request) -> Verdict:
            verdict = self.faults.point(worker, self.steppers[worker].step, request)
            if verdict is Verdict.KILL:
                dead.add(worker)
            return verdict

        _, last = cluster.play(engines, watch)
        for worker, request in last.items():
            self._halt(engines[worker], request)
        for worker in dead:
            del self.steppers[worker]
        if last and not dead and not self.faults.stops:
            raise Lost(f"nobody goes on, and nobody was lost: {last}")
        return not last and not dead

    def _life(self, worker: int, orders: Orders, steps: int) -> Steps[None]:
        stepper = self.steppers[worker]
        yield from stepper.enter(orders)
        self._note(worker)
        rest = orders.rest
        if orders.program is None:
            return
        while stepper.step < steps:
            if self._next is not None:
                stepper.pause()
            tally = yield from stepper.train_step(rest or orders.program, rest is not None)
            rest = None
            self._note(worker)
            if tally.pause:
                return

    def _note(self, worker: int) -> None:
        stepper = self.steppers[worker]
        self._save(stepper)
        if stepper.step == 0:
            return
        known = self.results.setdefault(stepper.step, {})
        for layer, value in self.hashes(stepper).items():
            assert known.setdefault(layer, value) == value, f"replicas of layer {layer} differ"
        if stepper.tally is None:
            return  # it has come back from a checkpoint, or got its layers from others
        tally = replace(stepper.tally, pause=False)
        assert self.tallies.setdefault(stepper.step, tally) == tally, "tallies differ"

    def _save(self, stepper: S) -> None:
        """A checkpoint of what this worker holds, every so many steps, and of the beginning."""
        if stepper.step % self.save_every == 0:
            saved = self._checkpoints.setdefault(stepper.step, {})
            for layer in stepper.held() - saved.keys():
                saved[layer] = {k: v.detach().clone() for k, v in stepper.state(layer).items()}

    def _checkpoint_step(self) -> int | None:
        whole = [s for s, saved in self._checkpoints.items() if len(saved) == self.plan.num_layers]
        return max(whole, default=None)

    def _roll_back(self, plan: Plan, step: int) -> dict[int, Orders]:
        """Everybody takes the layers of ``plan`` from a checkpoint."""
        for worker in plan.workers:
            if worker not in self.steppers:
                self.steppers[worker] = self.make(worker, ())
            states = {layer: self._checkpoints[step][layer] for layer in plan.held(worker)}
            self.steppers[worker].restore(step, states)
        self.rollbacks += 1
        return self._orders(plan, ())

    @staticmethod
    def _halt(engine: Steps[None], request: Request) -> None:
        """Stop a worker as the driver does: not between the commit and the last STEP."""
        while _steps(request):
            try:
                request = engine.send(None)
            except StopIteration:
                return
        engine.close()

    # -- a recovery

    def _recover(self) -> dict[int, Orders]:
        self.recoveries += 1
        while True:
            self._generation += 1
            self._next = None
            self._kill(self.faults.phase(Phase.STAND, tuple(self.steppers)))
            standings = {w: s.standing(w) for w, s in self.steppers.items()}
            self.stood.append(standings)
            if self.faults.restart(Phase.STAND):
                continue
            decision = self.choose(self._situation(standings))
            if self.faults.restart(Phase.DECIDE):
                continue
            if decision.plan is None:
                raise Lost(decision.reason)
            if decision.chosen.rollback_step is not None:
                plan = replace(decision.plan, generation=self._generation)
                return self._roll_back(plan, decision.chosen.rollback_step)
            plan, rounds = self._take(decision, standings)
            lost = self._kill(self.faults.phase(Phase.DECIDE, tuple(self.steppers)))
            if lost:
                continue
            regrouping = regroup(
                plan,
                standings,
                moves=rounds,
                anew=not at_once(plan, rounds, standings),
                ties=self.ties,
                split=self.split,
                before=self.plan,
            )
            self.redone += regrouping.redone
            dying = self.faults.phase(Phase.ADOPT, tuple(self.steppers))
            if dying or self.faults.restart(Phase.ADOPT):
                self._adopt_in_part(regrouping.orders)
                self._kill(dying)
                continue
            return dict(regrouping.orders)

    def _take(self, decision: Decision, standings: Mapping[int, Standing]) -> tuple[Plan, Rounds]:
        """The plan to go on with now; what moves state waits for the end of the step."""
        assert decision.plan is not None
        plan = replace(decision.plan, generation=self._generation)
        rounds = decision.chosen.moves
        if decision.finish is not None and not at_once(plan, rounds, standings):
            self._next = plan, rounds
            return replace(decision.finish, generation=self._generation), ()
        self._next = None
        return plan, rounds

    def _boundary(self) -> dict[int, Orders]:
        """Everybody stands behind a step: enter the plan that waited for it."""
        assert self._next is not None, "everybody stopped, and nobody knows why"
        (plan, _), self._next = self._next, None
        self._generation += 1
        standings = {w: s.standing(w) for w, s in self.steppers.items()}
        # Who was not in the plan that the step was ended under has fallen behind since.
        rounds = moves(plan, current(standings), self.profile)
        return self._orders(replace(plan, generation=self._generation), rounds)

    def _orders(self, plan: Plan, rounds: Rounds) -> dict[int, Orders]:
        standings = {w: s.standing(w) for w, s in self.steppers.items()}
        for worker in plan.workers:
            if worker not in standings:
                self.steppers[worker] = self.make(worker, ())
                standings[worker] = self.steppers[worker].standing(worker)
        found = regroup(plan, standings, moves=rounds, ties=self.ties, split=self.split)
        return dict(found.orders)

    def _situation(self, standings: Mapping[int, Standing]) -> Situation:
        step = max(s.step for s in standings.values())
        return Situation(
            plan=self.plan,
            lost=frozenset(self.plan.workers).difference(standings),
            holdings=current(standings),
            profile=self.profile,
            spares=tuple(w for w in standings if w not in self.plan.workers),
            ties=self.ties,
            step=step,
            mid_step=any(s.begun for s in standings.values()),
            checkpoint_step=self._checkpoint_step(),
            restore_s=10.0,
        )

    def _kill(self, workers: frozenset[int]) -> frozenset[int]:
        for worker in workers:
            del self.steppers[worker]
        if not self.steppers:
            raise Lost("nobody is left")
        return workers

    def _adopt_in_part(self, orders: Mapping[int, Orders]) -> None:
        """Half of the workers get their orders; then something happens."""
        everybody = tuple(orders)
        cluster = VirtualCluster(everybody)
        for worker in everybody[::2]:
            self.steppers[worker].join(orders[worker], worker, cluster.channel(worker))


def _steps(request: Request) -> bool:
    """Whether the worker is between the commit and the last STEP."""
    match request:
        case Before(Step()) | After(Step() | Commit()):
            return True
    return False
