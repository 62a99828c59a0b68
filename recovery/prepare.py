"""Decisions made before they are needed: candidates for the likeliest single failures.

What takes time is to find and simulate candidates; that depends on the plan and on who is lost,
not on when. So it is done while training runs, and at the failure only the scores are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ithaca.planner.plan import Plan
from ithaca.planner.profile import Profile
from ithaca.recovery.decide import STRATEGIES, Decision, candidates, decide, within
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.policy import Incident, Policy
from ithaca.recovery.score import node_of
from ithaca.recovery.strategy import Candidate, Situation, Strategy, StrategyName

DRIFT = 0.1
"""By so much times may have changed since candidates were found, as a part of them."""

Key = tuple[Plan, frozenset[int], frozenset[int], tuple[int, ...]]
"""A plan of generation 0, who is lost, who leaves, and the spares."""


def losses(situation: Situation, hazard: Hazard) -> tuple[frozenset[int], ...]:
    """The single failures that can come, the likeliest first: each machine, then each worker."""
    members: dict[str, set[int]] = {}
    for worker in situation.plan.workers:
        members.setdefault(node_of(worker, situation), set()).add(worker)
    alone = [
        (hazard.rate(node) / len(workers), frozenset({worker}))
        for node, workers in members.items()
        for worker in workers
    ]
    whole = [
        (hazard.rate(node), frozenset(workers))
        for node, workers in members.items()
        if 1 < len(workers) < len(situation.plan.workers)
    ]
    ranked = sorted(alone + whole, key=lambda item: (-item[0], sorted(item[1])))
    return tuple(lost for _, lost in ranked)


@dataclass
class Prepared:
    """A cache of candidates, by plan and by who is lost.

    It is the only state here; its owner decides when there is time to fill it.
    """

    strategies: Sequence[Strategy] = STRATEGIES
    _found: dict[Key, tuple[Situation, tuple[Candidate, ...]]] = field(default_factory=dict)

    def prepare(
        self, situation: Situation, hazard: Hazard, most: int | None = None
    ) -> Iterator[frozenset[int]]:
        """Find candidates for ``situation`` after each single loss; yields who was lost.

        One loss per turn of the iterator, so that the caller can stop at any time. What belongs to
        other plans is forgotten.

        Args:
            situation: as it is now, with nobody lost.
            hazard: says which losses are likeliest.
            most: losses that are looked at.
        """
        plan = _plain(situation.plan)
        self._found = {key: found for key, found in self._found.items() if key[0] == plan}
        for lost in losses(situation, hazard)[:most]:
            after = replace(
                situation,
                lost=lost,
                holdings={w: h for w, h in situation.holdings.items() if w not in lost},
            )
            key = _key(after)
            if key not in self._found:
                self._found[key] = after, candidates(after, self.strategies)
            yield lost

    def decide(
        self,
        situation: Situation,
        hazard: Hazard,
        policy: Policy | None = None,
        history: Sequence[Incident] = (),
        *,
        now_s: float = 0.0,
    ) -> Decision:
        """As :func:`decide`, with candidates made ahead of time if they fit what has happened."""
        situation = within(situation, hazard, policy or Policy(), now_s)
        proposed = None
        if (known := self._found.get(_key(situation))) and _fits(known[0], situation):
            proposed = tuple(_now(one, known[0], situation) for one in known[1])
        return decide(
            situation,
            hazard,
            policy,
            history,
            now_s=now_s,
            proposed=proposed,
            strategies=self.strategies,
        )


def _plain(plan: Plan) -> Plan:
    return replace(plan, generation=0)


def _key(situation: Situation) -> Key:
    return _plain(situation.plan), situation.lost, situation.leaving, situation.spares


def _fits(known: Situation, now: Situation) -> bool:
    """Whether candidates for ``known`` are those for ``now``."""
    return (
        known.there == now.there
        and _alike(known.profile, now.profile)
        and known.memory_limit_bytes == now.memory_limit_bytes
        and (known.exact, known.ties) == (now.exact, now.ties)
        and (known.checkpoint_step is None) == (now.checkpoint_step is None)
    )


def _alike(one: Profile, other: Profile) -> bool:
    """Whether plans for ``one`` are good for ``other``: times drift while training runs."""
    if len(one.layers) != len(other.layers) or any(
        (a.param_bytes, a.state_bytes, a.activation_bytes, a.output_bytes, a.split)
        != (b.param_bytes, b.state_bytes, b.activation_bytes, b.output_bytes, b.split)
        for a, b in zip(one.layers, other.layers, strict=True)
    ):
        return False
    times = [
        (
            sum(layer.forward_s + layer.backward_s for layer in profile.layers)
            + 2 * len(profile.layers) * profile.action_s,
            profile.link.seconds(max(layer.output_bytes for layer in profile.layers)),
        )
        for profile in (one, other)
    ]
    (compute_s, link_s), (compute_too_s, link_too_s) = times
    return abs(compute_s - compute_too_s) <= DRIFT * compute_s and abs(
        link_s - link_too_s
    ) <= DRIFT * max(link_s, compute_s)


def _now(one: Candidate, known: Situation, now: Situation) -> Candidate:
    """``one`` with the generation and the times of ``now``."""
    plan = one.plan
    if plan is None:
        return one
    transition_s = one.transition_s
    if one.strategy is StrategyName.ROLLBACK and now.checkpoint_step is not None:
        again = now.step - now.checkpoint_step
        transition_s = now.regroup_s + now.restore_s + again * one.step_s
        reason = f"back to step {now.checkpoint_step}: {again} steps are computed again"
        one = replace(
            one,
            rollback_step=now.checkpoint_step,
            reason=reason if one.feasible else one.reason,
        )
    elif one.strategy is not StrategyName.KEEP:
        transition_s += now.regroup_s - known.regroup_s
    plan = replace(plan, generation=now.plan.generation + 1)
    return replace(one, plan=plan, transition_s=transition_s)
