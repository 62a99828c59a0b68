"""What a candidate is worth: samples per second until the next failure, the way there included.

The rule of arXiv 2508.21613, Eq. 8, (B / step) x (D - transition) / D, takes the time D to the next
failure as given. Here D has a distribution (:mod:`ithaca.recovery.hazard`), and

    score = B / step x (E[(D - transition)+] - P x loss) / E[D],

where P is the probability that the next failure takes the only holder of a layer and ``loss`` the
seconds that this costs: restoring a checkpoint and computing again what came after it.
"""

from __future__ import annotations

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
) -> float:
    """Samples per second expected of ``candidate``; 0 if it has no plan or no time.

    Args:
        candidate: with its predictions.
        situation: in which it is proposed.
        hazard: of the machines.
        now_s: on the run's clock.
        exposed_s: seconds until layers with one holder will have two again; None for never.
    """
    plan = candidate.plan
    if plan is None or candidate.step_s <= 0:
        return 0.0
    nodes = {node_of(worker, situation) for worker in plan.workers}
    arrival = hazard.arrival(nodes, now_s, leaves_s(plan, situation, hazard))
    mean_s = arrival.mean_s
    if mean_s <= 0:
        return 0.0
    samples = plan.num_micro_batches * situation.samples_per_micro_batch
    useful_s = arrival.beyond(candidate.transition_s)
    lost_s = risk(plan, situation, hazard, arrival, exposed_s) * loss_s(candidate, situation)
    return samples / candidate.step_s * (useful_s - lost_s) / mean_s


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
