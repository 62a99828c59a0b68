"""What a candidate is worth: samples per second until the next failure, the way there included.

The rule of arXiv 2508.21613, Eq. 8, (B / step) x (D - transition) / D, takes the time D to the next
failure as given. Here D has a distribution (:mod:`ithaca.recovery.hazard`), and

    score = B / step x (E[(D - transition)+] - P x loss) / E[D],

where P is the probability that the next failure takes the only holder of a layer and ``loss`` the
seconds that this costs: restoring a checkpoint and computing again what came after it.

Nothing is worth anything behind the end of the job: if that is near, D is cut off there, and best
is what ends the job first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ithaca.planner.plan import Plan
from ithaca.recovery.hazard import Arrival, Hazard
from ithaca.recovery.strategy import Candidate, Situation, holders

MACHINE_SHARE = 0.5
"""Part of all failures that take a whole machine and not one of its workers; a convention."""


def node_of(worker: int, situation: Situation) -> str:
    """The machine of ``worker``; a worker of which it is not known counts as its own."""
    return situation.nodes.get(worker) or f"worker {worker}"


def leaves_s(plan: Plan, situation: Situation, hazard: Hazard) -> float | None:
    """When the first worker of ``plan`` leaves, on the run's clock; None if nobody is known to."""
    leaving = situation.leaving.intersection(plan.workers)
    names = {f"worker {worker}" for worker in leaving}
    return hazard.ends_s(names | {node_of(worker, situation) for worker in leaving})


def score(
    candidate: Candidate,
    situation: Situation,
    hazard: Hazard,
    now_s: float = 0.0,
    exposed_s: float | None = None,
    left_s: float | None = None,
) -> float:
    """Samples per second expected of ``candidate``; 0 if it has no plan or no time.

    Args:
        candidate: with its predictions.
        situation: in which it is proposed.
        hazard: of the machines.
        now_s: on the run's clock.
        exposed_s: seconds until layers with one holder will have two again; None for never.
        left_s: seconds to the end of the job, see :func:`left_s`; None if it is far.
    """
    plan = candidate.plan
    if plan is None or candidate.step_s <= 0:
        return 0.0
    nodes = {node_of(worker, situation) for worker in plan.workers}
    arrival = hazard.arrival(nodes, now_s, leaves_s(plan, situation, hazard))
    useful = arrival
    if left_s is not None:
        useful = replace(arrival, horizon_s=min(arrival.horizon_s, left_s))
        exposed_s = left_s if exposed_s is None else min(exposed_s, left_s)
    mean_s = useful.mean_s
    if mean_s <= 0:
        return 0.0
    samples = plan.num_micro_batches * situation.samples_per_micro_batch
    useful_s = useful.beyond(candidate.transition_s)
    lost_s = risk(plan, situation, hazard, arrival, exposed_s) * loss_s(candidate, situation)
    return samples / candidate.step_s * (useful_s - lost_s) / mean_s


def left_s(candidates: Iterable[Candidate], situation: Situation) -> float | None:
    """Seconds to the end of the job by what takes the shortest way; None without an end.

    With D at that time, another candidate is worth more just if it ends the job sooner.
    """
    able = [one for one in candidates if one.feasible and one.plan is not None and one.step_s > 0]
    if situation.steps_left is None or not able:
        return None
    stay = min(able, key=lambda one: (one.transition_s, one.step_s))
    return stay.transition_s + situation.steps_left * stay.step_s * situation.slowness


def risk(
    plan: Plan,
    situation: Situation,
    hazard: Hazard,
    arrival: Arrival,
    exposed_s: float | None = None,
) -> float:
    """P(the next failure takes all holders of some layer), if it comes before ``exposed_s``.

    A failure takes one worker or a whole machine, see ``MACHINE_SHARE``.
    """
    members: dict[str, list[int]] = {}
    for worker in plan.workers:
        members.setdefault(node_of(worker, situation), []).append(worker)
    rates = {node: hazard.rate(node) for node in members}
    workers: set[int] = set()
    machines: set[str] = set()
    for having in holders(plan):
        nodes = {node_of(worker, situation) for worker in having}
        workers |= set(having) if len(having) == 1 else set()
        machines |= nodes if len(nodes) == 1 else set()
    fatal = sum(
        rate
        * (
            MACHINE_SHARE * (node in machines)
            + (1 - MACHINE_SHARE) * len(workers.intersection(members[node])) / len(members[node])
        )
        for node, rate in rates.items()
    )
    soon = 1.0 if exposed_s is None else 1.0 - arrival.survival(exposed_s)
    return fatal / sum(rates.values()) * soon


def loss_s(candidate: Candidate, situation: Situation) -> float:
    """Seconds that the loss of a last holder costs: restore, and compute again what came after."""
    kept = situation.checkpoint_step if situation.checkpoint_step is not None else 0
    again = max(situation.step - kept, 1)
    return situation.restore_s + again * candidate.step_s
