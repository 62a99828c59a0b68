"""The truth of the study: what a step of any plan takes on the cluster, and whether it fits."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.recovery_study.job import Job
from benchmarks.recovery_study.shapes import Shapes, partitions
from ithaca.planner.plan import Pipeline, Plan, Route, Schedule, Stage
from ithaca.planner.program import Compute, Step, Transfer
from ithaca.planner.schedule import programs
from ithaca.planner.search import NoLayoutError, search
from ithaca.planner.simulate import Timeline, simulate


@dataclass(frozen=True, slots=True)
class Truth:
    """A step of one plan.

    Attributes:
        step_s: from one commit to the next.
        window_s: the longest that any card is busy with one step, from its first compute to its
            own optimizer step; without a barrier between steps they can follow at this distance.
        idle_s: per card, in the order of the plan's stages, what it waits within a step.
        peak_bytes: the most memory of any card.
        fits: whether that is within the limit.
    """

    step_s: float
    window_s: float
    idle_s: tuple[float, ...]
    peak_bytes: int
    fits: bool


class World:
    """Steps of plans for ``job``, each plan simulated once.

    Args:
        job: with the calibrated truth.
        exact: whether gradients are summed in the fixed tree; otherwise by a ring all-reduce.
        layouts: the best ones that are known already, by cards; new ones are added.
    """

    def __init__(
        self,
        job: Job,
        *,
        exact: bool = False,
        layouts: MutableMapping[int, Plan | None] | None = None,
    ) -> None:
        self.job = job
        self.exact = exact
        self._known: dict[str, Truth] = {}
        self._layouts = {} if layouts is None else layouts

    def truth(self, plan: Plan) -> Truth:
        """What a step of ``plan`` takes; which cards have which place does not matter."""
        alike = renumbered(plan)
        key = str(alike)
        if key not in self._known:
            self._known[key] = self._simulated(alike)
        return self._known[key]

    def step_s(self, plan: Plan) -> float:
        """Seconds of a step of ``plan``."""
        return self.truth(plan).step_s

    def throughput(self, plan: Plan) -> float:
        """Micro-batches per second under ``plan``."""
        return self.job.micro_batches / self.step_s(plan)

    def best(self, cards: int) -> Plan | None:
        """The best layout for ``cards`` that is known, by the truth; None if nothing fits."""
        if cards not in self._layouts:
            self._layouts[cards] = self._found(cards)
        return self._layouts[cards]

    def _found(self, cards: int) -> Plan | None:
        """Asked are the planner, with the profile it is shown, and the calibrated estimate over all
        sets of pipeline lengths; both schedules; up to two cards may stay idle. The truth chooses.
        """
        if cards < 1:
            return None
        found: list[Plan] = []
        for schedule in (Schedule.ONE_F_ONE_B, Schedule.ONE_F_ONE_B_SPLIT):
            found += self._searched(cards, schedule)
        shapes = Shapes(self.job)
        for used in range(cards, max(cards - 3, 0), -1):
            lengths = partitions(used, self.job.num_layers)
            for plan in shapes.ranked(lengths, shapes.calibrated_s, tail=True):
                found += [plan, replace(plan, schedule=Schedule.ONE_F_ONE_B_SPLIT)]
        fitting = [plan for plan in found if self.truth(plan).fits]
        return min(fitting, key=self.step_s, default=None)

    def _searched(self, cards: int, schedule: Schedule) -> list[Plan]:
        job = self.job.of(schedule)
        try:
            candidates = search(
                job.profile, cards, job.micro_batches, job.limit_bytes, schedule, exact=self.exact
            )
        except NoLayoutError:
            return []
        return [candidate.plan for candidate in candidates]

    def _simulated(self, plan: Plan) -> Truth:
        job = self.job.of(plan.schedule)
        made = programs(plan, job.profile.layers)
        line = simulate(made, job.profile, exact=self.exact)
        peak = max(line.peak_bytes.values())
        windows = [_window_s(line, worker) for worker in line.rows]
        idle = [line.step_s - _occupied_s(line, stage.worker) for stage in plan.stages()]
        return Truth(line.step_s, max(windows), tuple(idle), peak, peak <= job.limit_bytes)


def _window_s(line: Timeline, worker: int) -> float:
    """From the first compute of ``worker`` to its step, without the wait for the others' commit."""
    computes = [timed for timed in line.rows[worker] if isinstance(timed.action, Compute)]
    if not computes:
        return 0.0
    rest = sum(
        timed.end_s - timed.start_s
        for timed in line.rows[worker]
        if not isinstance(timed.action, Compute | Transfer)
    )
    return computes[-1].end_s - computes[0].start_s + rest


def _occupied_s(line: Timeline, worker: int) -> float:
    """Seconds in which ``worker`` computes, steps or is held by a message."""
    return sum(
        timed.end_s - timed.start_s
        for timed in line.rows[worker]
        if isinstance(timed.action, Compute | Step | Transfer)
    )


def renumbered(plan: Plan) -> Plan:
    """``plan`` with workers 0 to n - 1 in the order of their stages and generation 0."""
    order = [stage.worker for stage in (*plan.stages(), *plan.shadows)]
    names = {worker: place for place, worker in enumerate(dict.fromkeys(order))}
    return renamed(replace(plan, generation=0), names)


def renamed(plan: Plan, names: dict[int, int] | Sequence[int]) -> Plan:
    """``plan`` with worker w replaced by ``names[w]``."""

    def stage(one: Stage) -> Stage:
        return Stage(one.layers, names[one.worker])

    return replace(
        plan,
        pipelines=tuple(
            Pipeline(tuple(map(stage, pipeline.stages)), pipeline.micro_batches)
            for pipeline in plan.pipelines
        ),
        routes=tuple(Route(r.micro_batch, r.layers, names[r.worker]) for r in plan.routes),
        shadows=tuple(map(stage, plan.shadows)),
    )
