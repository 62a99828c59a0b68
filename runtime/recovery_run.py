"""One recovery, from evidence to a settled generation.

Fence, let everybody stand, decide, tell everybody its part, go on. A further failure at any point
begins it anew with the next generation: what survivors hold is asked again, nothing is assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ithaca.planner.plan import Plan
from ithaca.planner.program import Program
from ithaca.planner.schedule import programs
from ithaca.recovery.decide import Decision
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.moves import moves
from ithaca.recovery.orders import Orders
from ithaca.recovery.regroup import at_once, current, regroup
from ithaca.recovery.salvage import SalvageError
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Candidate, Rounds
from ithaca.runtime.account import Account
from ithaca.runtime.brain import Brain
from ithaca.runtime.checkpoint.store import Found
from ithaca.runtime.control.roll import Order, OrderKind, Roll
from ithaca.runtime.deploy import deployments
from ithaca.runtime.events import Decided, FailureNoticed, WorkerLeft
from ithaca.runtime.front import Desk
from ithaca.runtime.journal import Choosing, Fencing, Journal, Settled
from ithaca.runtime.mission import plan_chosen
from ithaca.runtime.orders import Deployment, validation_due
from ithaca.runtime.patience import DUMP_S, UNMET, MoreError, Patience, Pending
from ithaca.runtime.timeouts import Timeouts

_BARREN = 3
"""So many tries in a row that failed although nobody is to blame end the run."""


class RefusedError(Exception):
    """The run cannot go on; the text is the reason, in one line."""


class Hands(Protocol):
    """What a recovery asks of workers; :class:`~ithaca.runtime.crew.Crew` in a run."""

    def stand(self, workers: Iterable[int], generation: int) -> Pending:
        """Stop everybody for ``generation``; answers are standings."""

    def adopt(self, deployments: Mapping[int, Deployment]) -> Pending:
        """Give everybody its part of a generation; answers come when its workers have met."""

    def dump(self, workers: Iterable[int]) -> Pending:
        """The stacks of all threads; answers are texts."""

    def kill(self, worker: int) -> None:
        """End a worker's process."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a recovery needs of the controller around it.

    Attributes:
        look: takes notes and says which workers have failed since.
        train: sees that the engines of these workers run, and wait for their part.
        settled: everybody trains under the plan.
        point: told each named point, ``before`` or ``after`` it; a drill may strike there.
    """

    look: Callable[[], tuple[Failure, ...]]
    train: Callable[[Iterable[int]], None]
    settled: Callable[[Plan], None]
    point: Callable[[str, str], None] = lambda *_: None


def _taints(failures: Sequence[Failure]) -> bool:
    """Whether somebody computed with memory that had changed by itself."""
    return any(f.kind is FailureClass.CORRUPTION and f.worker is not None for f in failures)


def _trusted(failures: Sequence[Failure], known: int | None) -> int | None:
    """The newest state that is known to be good; None if nothing is known to be wrong."""
    steps = [failure.trusted for failure in failures if failure.trusted is not None]
    return min([*steps, *([] if known is None else [known])], default=None)


class Recovery:
    """Answers failures of one run; used by the controller's thread alone.

    Args:
        desk: shared with the control plane.
        hands: calls to workers.
        roll: pushes orders to them.
        brain: decides.
        journal: written before acting.
        account: of what recoveries cost.
        timeouts: of the run.
        ways: back into the controller.
    """

    def __init__(
        self,
        desk: Desk,
        hands: Hands,
        roll: Roll,
        brain: Brain,
        journal: Journal,
        account: Account,
        timeouts: Timeouts,
        ways: Ways,
    ) -> None:
        self._desk = desk
        self._hands = hands
        self._roll = roll
        self._brain = brain
        self._journal = journal
        self._account = account
        self._ways = ways
        self._patience = Patience(desk, hands.dump, ways.look, account.now, timeouts)
        self._goal: Candidate | None = None
        self._condemned: set[int] = set()
        """Fenced, and to be killed once the others train again."""
        self._tainted = False
        self._trusted: int | None = None
        """Committed steps in the newest state to go on from; None for what survivors hold."""
        self.first: Failure | None = None
        """The first cause of what is being answered, or was answered last."""

    @property
    def goal(self) -> Candidate | None:
        """A plan that moves layers and is to be entered behind the step under way; else None."""
        return self._goal

    def begin(self, steady: Mapping[int, Program]) -> None:
        """Bring everybody together for the first time, from initial weights or the checkpoint.

        Raises:
            RefusedError: they cannot come together.
        """
        mission = self._desk.mission
        step = mission.resume.step if mission.resume else 0
        workers = mission.plan.workers
        orders = {w: Orders(mission.plan, part, step, workers) for w, part in steady.items()}
        try:
            self._deploy(orders, "", validation_due(mission.job, step) and step == 0)
        except MoreError as more:
            self.answer(more.failures)

    def answer(self, failures: Sequence[Failure], trusted: int | None = None) -> None:
        """Bring the run back to training after ``failures``; none: only a new plan is wanted.

        Args:
            failures: first causes first.
            trusted: committed steps in the newest state that is known to be good, if it is known
                that survivors' is not; failures may say so themselves.

        Raises:
            RefusedError: nothing is possible.
        """
        if failures:
            self._ways.point("before", "notice")
        self._goal = None
        self.first = failures[0] if failures else None
        self._tainted = _taints(failures)
        self._trusted = _trusted(failures, trusted)
        self._account.begin(failures)
        self._brain.happened(failures)
        self._repeat(failures, self._decide_and_act)
        self._trusted = None

    def consider(self) -> None:
        """Look for a better plan while everybody trains; it becomes the goal if there is one.

        What everybody holds follows from the plan, so nobody has to be asked.
        """
        members, keeper = self._desk.members, self._desk.keeper
        step = self._desk.recorder.ledger.committed
        calm = {
            worker: Standing(worker, members.settled, step, frozenset(members.plan.held(worker)))
            for worker in members.known
        }
        leaving = frozenset(members.leaving)
        situation = self._brain.situation(members.plan, calm, frozenset(), leaving, keeper.step)
        decision = self._brain.reconsider(situation)
        if decision is None:
            return
        if decision.chosen.plan is None:
            self._desk.recorder.warn(f"no worker can leave: {decision.reason}")
            members.leaving.clear()
            return
        self._told(decision, members.generation + 1)
        self._goal = decision.chosen

    def drop_goal(self) -> None:
        """What was put off is not wanted any more."""
        self._goal = None

    def enter_goal(self) -> None:
        """Everybody stands behind a step: enter the plan that was put off."""
        goal, self._goal = self._goal, None
        assert goal is not None, "there is no goal"
        self._account.begin(())
        self._account.decided(goal)

        def act(generation: int, standings: Mapping[int, Standing]) -> None:
            self._move_to(goal, generation, standings, "a better plan")

        try:
            self._fence_and(act, ())
        except MoreError as more:
            self.answer(more.failures)

    def _repeat(
        self,
        failures: Sequence[Failure],
        act: Callable[[int, Mapping[int, Standing]], None],
    ) -> None:
        barren = 0
        while True:
            try:
                self._fence_and(act, failures)
            except MoreError as more:
                failures = more.failures
                barren = 0 if failures else barren + 1
                if barren == UNMET and more.apart is not None:
                    failures, barren = (self._patience.cut_off(more.apart, str(more)),), 0
                if barren == _BARREN:
                    raise RefusedError(f"the workers that are left cannot meet: {more}") from more
                if not failures:
                    continue
                self.first = self.first or failures[0]
                self._tainted = self._tainted or _taints(failures)
                self._trusted = _trusted(failures, self._trusted)
                self._account.more(failures)
                self._brain.happened(failures)
            else:
                return

    def _fence_and(
        self, act: Callable[[int, Mapping[int, Standing]], None], failures: Sequence[Failure]
    ) -> None:
        """One try: raises :class:`MoreError` if others fail meanwhile."""
        self._ways.point("before", "fence")
        generation = self._fence(failures)
        self._ways.point("after", "fence")
        standings = self._stand(generation, failures)
        act(generation, standings)

    # -- fence and stand

    def _fence(self, failures: Sequence[Failure]) -> int:
        members, before = self._desk.members, self._desk.members.generation
        lost = {f.worker: f.evidence for f in failures if f.worker is not None}
        self._condemned |= lost.keys()
        nodes = {worker: self._desk.facts[worker].node for worker in lost}
        self._journal.write(
            Fencing(
                time_s=time.time(),
                generation=before + 1,
                lost={str(worker): reason for worker, reason in lost.items()},
                trusted=self._trusted,
            )
        )
        generation = members.begin(lost)
        for worker, reason in lost.items():
            # The order of a fence reaches also one that is not dead but only believed to be.
            self._roll.push(Order(generation, OrderKind.FENCE, "lost"), [worker])
            self._roll.dismiss(worker)
            self._desk.recorder.emit(
                WorkerLeft(time_s=time.time(), worker=worker, node=nodes[worker], reason=reason)
            )
        self._roll.push(Order(generation, OrderKind.FENCE), members.known)
        return generation

    def _stand(self, generation: int, failures: Sequence[Failure]) -> dict[int, Standing]:
        """Everybody's standing; the failures are told meanwhile, with stacks after a hang."""
        members = self._desk.members
        hung = [f.worker for f in failures if f.kind is FailureClass.HANG and f.worker is not None]
        dumping = self._hands.dump([*members.known, *hung]) if hung else None
        standing = self._hands.stand(members.known, generation)
        try:
            standings = self._patience.stand(standing)
        finally:
            self._tell(failures, dumping.poll(DUMP_S) if dumping else {})
        members.raise_to(max((s.generation for s in standings.values()), default=generation))
        self._account.stood()
        return standings

    def _tell(self, failures: Sequence[Failure], stacks: Mapping[int, object]) -> None:
        """The events of ``failures``, with the stacks of those that were asked for them."""
        ranks = {worker: rank for rank, worker in enumerate(self._desk.members.plan.workers)}
        told = "\n".join(
            f"worker {worker}:\n{text}" for worker, text in stacks.items() if isinstance(text, str)
        )
        for failure in failures:
            self._desk.recorder.emit(
                FailureNoticed(
                    time_s=time.time(),
                    generation=failure.generation,
                    failure=failure.kind.value,
                    worker=failure.worker,
                    node=failure.node,
                    rank=None if failure.worker is None else ranks.get(failure.worker),
                    step=failure.step,
                    action=failure.action,
                    evidence=failure.evidence,
                    traceback=failure.traceback or told,
                )
            )

    # -- decide and act

    def _decide_and_act(self, generation: int, standings: Mapping[int, Standing]) -> None:
        members, keeper = self._desk.members, self._desk.keeper
        if self._trusted is not None:
            keeper.discard_after(self._trusted)
        situation = self._brain.situation(
            members.plan,
            standings,
            frozenset(w for w in members.plan.workers if w in members.lost),
            frozenset(members.leaving),
            keeper.step,
        )
        if self._trusted is not None:
            # What they hold was computed with what one of them had wrong: as if it were gone.
            situation = replace(situation, holdings=dict.fromkeys(standings, frozenset()))
        self._ways.point("before", "decide")
        decision = self._brain.decide(situation)
        self._brain.answered(decision.chosen.strategy)
        self._account.decided(decision.chosen)
        self._told(decision, generation)
        self._ways.point("after", "decide")
        chosen = decision.chosen
        if chosen.plan is None:
            raise RefusedError(self._refusal(decision.reason))
        self._journal.write(
            Choosing(
                time_s=time.time(),
                generation=generation,
                strategy=chosen.strategy.value,
                plan=str(chosen.plan),
            )
        )
        if chosen.rollback_step is not None:
            self._roll_back(chosen, generation, standings)
        elif decision.finish is not None and not at_once(chosen.plan, chosen.moves, standings):
            finish = replace(decision.finish, generation=generation)
            self._settle(finish, standings, (), "after a failure")
            self._goal = chosen
        else:
            self._move_to(chosen, generation, standings, "after a failure")

    def _refusal(self, reason: str) -> str:
        if self._trusted is None:
            return reason
        return (
            f"what was computed since step {self._trusted} may be wrong wherever it is held, and "
            f"cannot be computed again: {reason}"
        )

    def _told(self, decision: Decision, generation: int) -> None:
        chosen = decision.chosen
        self._desk.recorder.emit(
            Decided(
                time_s=time.time(),
                generation=generation,
                strategy=chosen.strategy.value,
                plan=None
                if chosen.plan is None
                else str(replace(chosen.plan, generation=generation)),
                reason=decision.reason,
                candidates=[
                    {
                        "strategy": scored.candidate.strategy.value,
                        "step_s": scored.candidate.step_s,
                        "transition_s": scored.candidate.transition_s,
                        "peak_bytes": scored.candidate.peak_bytes,
                        "score": scored.score,
                        "feasible": scored.candidate.feasible,
                        "reason": scored.candidate.reason,
                    }
                    for scored in decision.candidates
                ],
                predicted_step_s=chosen.step_s if chosen.plan else None,
                predicted_transition_s=chosen.transition_s if chosen.plan else None,
            )
        )

    def _move_to(
        self, chosen: Candidate, generation: int, standings: Mapping[int, Standing], why: str
    ) -> None:
        assert chosen.plan is not None, "a goal has a plan"
        plan = replace(chosen.plan, generation=generation)
        # Who was in no plan since the choice has fallen behind: what is missing may be more.
        rounds = moves(plan, current(standings), self._desk.recorder.profile)
        self._settle(plan, standings, rounds, why)

    def _settle(
        self, plan: Plan, standings: Mapping[int, Standing], moves: Rounds, why: str
    ) -> None:
        """Give everybody its orders under ``plan`` and see that they take them."""
        mission = self._desk.mission
        try:
            regrouping = regroup(
                plan,
                standings,
                moves=moves,
                # What a corrupt worker computed is in what others hold.
                anew=self._tainted or not at_once(plan, moves, standings),
                ties=mission.ties,
                split=mission.split,
                before=self._desk.members.plan,
            )
        except SalvageError as error:
            raise RefusedError(f"the survivors' states do not fit together: {error}") from error
        step = max(standings[worker].step for worker in plan.workers)
        self._record_committed(step, standings)
        self._account.regrouped(regrouping, plan)
        behind = min(s.validated for w, s in standings.items() if w in plan.workers)
        validate = validation_due(mission.job, step) and behind < step
        self._deploy(regrouping.orders, f"{why} behind step {step}", validate)

    def _deploy(
        self,
        orders: Mapping[int, Orders],
        reason: str,
        validate: bool,
        restore: Found | None = None,
    ) -> None:
        """Send ``orders`` out, and wait until everybody has met."""
        self._ways.point("before", "order")
        desk = self._desk
        plan = next(iter(orders.values())).plan
        steady = {w: each.program for w, each in orders.items() if each.program is not None}
        desk.members.enter(plan)
        desk.recorder.change(plan, steady)
        desk.keeper.change(plan)
        if reason:
            desk.recorder.emit(
                plan_chosen(plan, steady, desk.recorder.profile, desk.mission.exact, reason)
            )
        self._ways.train(orders)
        adopting = self._hands.adopt(
            deployments(desk.mission, desk.facts, orders, validate=validate, restore=restore)
        )
        # Who had come to the end of its training is called again once that is known.
        self._patience.meet(adopting, lambda: self._ways.train(orders))
        self._settled(plan)

    def _settled(self, plan: Plan) -> None:
        desk = self._desk
        self._journal.write(Settled(time_s=time.time(), generation=plan.generation, plan=str(plan)))
        desk.members.settle()
        while self._condemned:
            self._hands.kill(self._condemned.pop())
        desk.detector.clear(plan.workers)
        self._account.settled()
        self._ways.settled(plan)

    def _record_committed(self, step: int, standings: Mapping[int, Standing]) -> None:
        """The newest committed step has a record, although its speaker may be gone."""
        known = [s for s in standings.values() if s.step == step and s.tally is not None]
        if known:
            tally = known[0].tally
            assert tally is not None, "it was asked for"
            self._desk.recorder.committed(step, tally, known[0].generation)

    def _roll_back(
        self, chosen: Candidate, generation: int, standings: Mapping[int, Standing]
    ) -> None:
        """Everybody begins anew from the newest whole checkpoint."""
        desk = self._desk
        assert chosen.plan is not None, "there is a plan to go back with"
        found = desk.keeper.find()
        if found is None:
            raise RefusedError("there is no whole checkpoint to go back to")
        plan = replace(chosen.plan, generation=generation)
        steady = programs(plan, ties=desk.mission.ties, split=desk.mission.split)
        desk.keeper.back_to(found)
        desk.recorder.back_to(found.manifest.ledger, generation)
        self._account.rolled_back(standings, found.step, plan)
        self._deploy(
            {w: Orders(plan, steady[w], found.step, plan.workers) for w in plan.workers},
            f"back to the checkpoint after step {found.step}",
            validate=False,
            restore=found,
        )
