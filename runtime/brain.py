"""The brain of a run: what the controller knows that a decision needs, kept up to date.

It holds the estimate of failures to come, the incidents so far, and candidates made ahead of time;
the decision itself is :mod:`ithaca.recovery.decide`, which is pure.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.recovery.decide import Decision
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.forecast import forecast
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.policy import Incident, Policy
from ithaca.recovery.prepare import Prepared
from ithaca.recovery.reconsider import reconsidered
from ithaca.recovery.standing import Standing
from ithaca.recovery.strategy import Situation, StrategyName
from ithaca.runtime.config.recovery import Choice, RecoveryConfig
from ithaca.runtime.mission import Mission

_BLAMELESS = frozenset({FailureClass.NOTICE, FailureClass.CONTROLLER, FailureClass.HEAD})
ENTRIES = 2
"""A plan that was entered so often, nobody having failed since, is not entered again (I7)."""
_REGROUP_S, _RESTORE_S = 0.1, 2.0
"""Before any recovery of this run was measured."""
_REGROUPING = ("wake", "decide", "rebuild")
_RECENT = 5
"""So many recoveries, or steps, tell how long the next ones take."""


class Brain:
    """Decides for one run; used by the controller's thread alone.

    Args:
        mission: what is carried out.
        profile: the newest one.
        place: name of the node of a worker; failures are counted by node.
        now: the run's clock in seconds.
    """

    def __init__(
        self,
        mission: Mission,
        profile: Callable[[], Profile],
        place: Callable[[int], str],
        now: Callable[[], float],
    ) -> None:
        self._mission = mission
        self._profile = profile
        self._place = place
        self._now = now
        self._policy = policy(mission.job.recovery)
        self._hazard = Hazard()
        self._watched_s = now()
        self._history: list[Incident] = []
        self._prepared = Prepared()
        self._preparing: Iterator[frozenset[int]] | None = None
        self._regroups: deque[float] = deque(maxlen=_RECENT)
        self._steps_s: deque[float] = deque(maxlen=_RECENT)
        """Of the last steps under the plan in force."""
        self._slowness = 1.0
        self._known: tuple[Plan, Profile, float] | None = None
        self._entered: Counter[Plan] = Counter()
        """How often each plan was entered since the last failure."""

    @property
    def regroup_s(self) -> float:
        """Seconds in which everybody stands, is told its part and meets: what it took lately."""
        return median(self._regroups) if self._regroups else _REGROUP_S

    def recovered(self, phases: Mapping[str, float]) -> None:
        """A recovery, or a change of plan, has ended; seconds by the names of its phases."""
        self._regroups.append(sum(phases.get(name, 0.0) for name in _REGROUPING))

    @property
    def failures(self) -> int:
        """How many incidents there were that were no notices."""
        return sum(not incident.is_notice for incident in self._history)

    def watch(self, plan: Plan, step_s: float) -> None:
        """A step was committed under ``plan`` in so many seconds: time without a failure."""
        self._steps_s.append(step_s)
        if len(self._steps_s) == _RECENT:
            self._slowness = median(self._steps_s) / self._predicted_s(plan)
        now = self._now()
        passed, self._watched_s = now - self._watched_s, now
        nodes = {self._place(worker) for worker in plan.workers}
        self._hazard = self._hazard.watched(dict.fromkeys(nodes, max(0.0, passed)))

    def happened(self, failures: Sequence[Failure]) -> None:
        """An incident that is about to be answered."""
        blamed = {self._node(f) for f in failures if f.kind not in _BLAMELESS}
        for node in sorted(blamed - {""}):
            self._hazard = self._hazard.failed(node, self._now())
        self._history.append(Incident(tuple(failures)))
        self._entered.clear()

    def noticed(self, worker: int, ends_s: float | None) -> None:
        """``worker``'s node will be gone at ``ends_s`` on the run's clock."""
        self._hazard = self._hazard.noticed(self._place(worker), ends_s)

    def situation(
        self,
        plan: Plan,
        standings: Mapping[int, Standing],
        lost: frozenset[int],
        leaving: frozenset[int],
        checkpoint_step: int | None,
    ) -> Situation:
        """What is there, as everybody says who stands.

        Args:
            plan: the one in force.
            standings: of survivors and spares.
            lost: workers of the plan that are gone.
            leaving: survivors that will go.
            checkpoint_step: of the newest whole checkpoint.
        """
        step = max((standing.step for standing in standings.values()), default=0)
        mission = self._mission
        return Situation(
            plan=plan,
            lost=lost,
            holdings={worker: _newest(standing, step) for worker, standing in standings.items()},
            spares=tuple(sorted(w for w in standings if w not in plan.workers)),
            leaving=leaving,
            profile=self._profile(),
            memory_limit_bytes=self._limit_bytes(),
            exact=mission.exact,
            ties=mission.ties,
            step=step,
            mid_step=any(s.begun for s in standings.values() if s.step == step),
            checkpoint_step=checkpoint_step,
            restore_s=_RESTORE_S,
            regroup_s=self.regroup_s,
            nodes={w: self._place(w) for w in (*plan.workers, *standings)},
            steps_left=max(1, mission.job.steps - step),
            slowness=self._slowness,
        )

    def _predicted_s(self, plan: Plan) -> float:
        """Seconds of a step of ``plan``; predicted once while plan and profile are the same."""
        profile = self._profile()
        if self._known is None or self._known[0] is not plan or self._known[1] is not profile:
            mission = self._mission
            here = Situation(plan, frozenset(), {}, profile, exact=mission.exact, ties=mission.ties)
            self._known = plan, profile, forecast(plan, here).step_s
        return self._known[2]

    def _limit_bytes(self) -> int | None:
        """What a worker may hold; a budget counts as soon as it is known what staying in it costs.

        Until then plans are compared as if they fitted: the one in force does, by saving memory.
        """
        job = self._mission.job
        return job.memory_limit_bytes if self._profile().memory_costs else job.layout.memory

    def decide(self, situation: Situation) -> Decision:
        """The answer to the newest incident."""
        return self._prepared.decide(
            situation, self._hazard, self._policy, self._history, now_s=self._now()
        )

    def reconsider(self, situation: Situation) -> Decision | None:
        """A plan that is worth the way there although nothing failed; None if there is none."""
        decision = self._prepared.decide(
            situation, self._hazard, self._policy, (), now_s=self._now()
        )
        worn = [plan for plan, times in self._entered.items() if times >= ENTRIES]
        return reconsidered(decision, situation, worn)

    def entered(self, plan: Plan) -> None:
        """Everybody trains under ``plan``."""
        self._entered[replace(plan, generation=0)] += 1
        self._steps_s.clear()

    def answered(self, strategy: StrategyName) -> None:
        """What was done about the newest incident."""
        if self._history:
            self._history[-1] = replace(self._history[-1], answer=strategy)

    def prepare(self, plan: Plan, spares: Sequence[int], checkpoint_step: int | None) -> None:
        """From now on, prepare answers to the likeliest failures under ``plan``."""
        holders = {
            worker: Standing(worker, plan.generation, 0, frozenset(plan.held(worker)))
            for worker in (*plan.workers, *spares)
        }
        calm = self.situation(plan, holders, frozenset(), frozenset(), checkpoint_step)
        self._preparing = self._prepared.prepare(calm, self._hazard, most=2 * len(plan.workers))

    def think(self) -> bool:
        """Prepare one more answer; False if nothing is left to do."""
        if self._preparing is not None and next(self._preparing, None) is None:
            self._preparing = None
        return self._preparing is not None

    def _node(self, failure: Failure) -> str:
        return self._place(failure.worker) if failure.worker is not None else failure.node


def policy(config: RecoveryConfig) -> Policy:
    """The limits that a job sets."""
    names = {
        Choice.AUTO: None,
        Choice.NONE: frozenset[StrategyName](),
    }
    if config.strategy in names:
        allowed = names[config.strategy]
    else:
        one = StrategyName(config.strategy.value)
        allowed = frozenset({one, StrategyName.KEEP, StrategyName.ROLLBACK})
    return Policy(
        min_workers=config.min_workers,
        max_failures=config.max_failures,
        quarantine_failures=config.quarantine_failures,
        quarantine_s=config.quarantine,
        strategies=allowed,
    )


def _newest(standing: Standing, step: int) -> frozenset[int]:
    """Layers whose state after ``step`` steps a worker has, or has once it rolled forward."""
    if standing.step == step or (standing.step == step - 1 and standing.voted):
        return standing.layers
    return frozenset()
