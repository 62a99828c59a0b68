"""The decision: every candidate of every strategy, what each is worth, and the one that is taken.

Pure: the same situation, estimate, policy and history give the same decision, so that one made
ahead of time or on paper is the one that a run would take.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from ithaca.planner.plan import Plan
from ithaca.recovery.cover import chains
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.policy import Incident, Policy, overdrawn, quarantined, worn_out
from ithaca.recovery.redundancy import restored
from ithaca.recovery.score import leaves_s, left_s, score
from ithaca.recovery.strategies.refuse import refusal
from ithaca.recovery.strategies.reroute import Reroute, detours
from ithaca.recovery.strategies.reshape import Reshape
from ithaca.recovery.strategies.rollback import Rollback
from ithaca.recovery.strategies.shadow import Shadow
from ithaca.recovery.strategy import (
    Candidate,
    Move,
    Situation,
    Strategy,
    StrategyName,
    entered,
    parts,
)

STRATEGIES: tuple[Strategy, ...] = (Reroute(), Shadow(), Reshape(), Rollback())
"""Asked in this order; of equal scores the earlier one is taken."""

LEAVE_STEPS = 3
"""A plan with a leaving worker must be good for this many steps more, or it is too late for it."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its score, in samples per second."""

    candidate: Candidate
    score: float


@dataclass(frozen=True)
class Decision:
    """What was decided and what else there was.

    Attributes:
        chosen: the candidate taken; its strategy is ``refuse`` and it has no plan if none could be.
        candidates: all, best first, infeasible ones last; each says why it is what it is.
        reason: of the choice, in one sentence.
        at_once: whether the chosen plan may be entered where the workers stand: nothing is rolled
            back or moved, and everybody keeps what it holds, so no work of the step is lost.
            Otherwise it is entered between two steps.
        finish: a plan under which everybody keeps what it holds, to end the step under way with
            if the chosen one has to wait for its end; None if there is none, and then the step
            begins anew under the chosen plan.
        review_s: on the run's clock, when to decide again (a worker will leave); None for no time.
    """

    chosen: Candidate
    candidates: tuple[Scored, ...]
    reason: str
    at_once: bool = False
    finish: Plan | None = None
    review_s: float | None = None

    @property
    def plan(self) -> Plan | None:
        """The next plan; None if nothing is possible."""
        return self.chosen.plan

    @cached_property
    def score(self) -> float:
        """Of the chosen candidate, in samples per second; 0 for a refusal."""
        return next((s.score for s in self.candidates if s.candidate is self.chosen), 0.0)

    def __str__(self) -> str:
        """JSON that :meth:`parse` reads back."""
        everything = [scored.candidate for scored in self.candidates]
        place = next((i for i, one in enumerate(everything) if one is self.chosen), None)
        return json.dumps(
            {
                "chosen": _written(self.chosen) if place is None else place,
                "candidates": [
                    {**_written(scored.candidate), "score": scored.score}
                    for scored in self.candidates
                ],
                "reason": self.reason,
                "at_once": self.at_once,
                "finish": None if self.finish is None else str(self.finish),
                "review_s": self.review_s,
            },
            indent=1,
        )

    @classmethod
    def parse(cls, text: str) -> Decision:
        """The decision that ``str`` wrote; ``ValueError`` if the text is none."""
        try:
            data = json.loads(text)
            found = tuple(Scored(_read(c), c["score"]) for c in data["candidates"])
            chosen = data["chosen"]
            return cls(
                found[chosen].candidate if isinstance(chosen, int) else _read(chosen),
                found,
                data["reason"],
                data["at_once"],
                None if data["finish"] is None else Plan.parse(data["finish"]),
                data["review_s"],
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"this is not a decision: {error!r}") from error


def decide(
    situation: Situation,
    hazard: Hazard,
    policy: Policy | None = None,
    history: Sequence[Incident] = (),
    *,
    now_s: float = 0.0,
    proposed: Sequence[Candidate] | None = None,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> Decision:
    """The candidate with the highest score among those that can be done and are allowed.

    Args:
        situation: what is there.
        hazard: estimate of failures to come.
        policy: the user's limits.
        history: all incidents so far; the last one is decided on, its answer is still None.
        now_s: on the run's clock, as times in ``hazard`` and ``history``.
        proposed: candidates made ahead of time for this very situation (:mod:`prepare`); by
            default the strategies are asked.
        strategies: who is asked.
    """
    policy = policy or Policy()
    situation = within(situation, hazard, policy, now_s)
    if proposed is None:
        proposed = candidates(situation, strategies)
    worn, why = worn_out(history)
    stop = overdrawn(history, policy)
    finish = ending(situation)
    allowed = [
        _allowed(one, situation, hazard, policy, now_s, why if one.strategy in worn else stop)
        for one in proposed
    ]
    ways = [_whole_way(one, situation, finish) for one in allowed]
    ends_s = left_s(ways, situation)
    scored = [
        Scored(one, _worth(way, situation, hazard, now_s, ends_s) if one.feasible else 0.0)
        for one, way in zip(allowed, ways, strict=True)
    ]
    scored.sort(key=lambda s: (not s.candidate.feasible, -s.score))
    if scored and scored[0].candidate.feasible:
        best = scored[0].candidate
        return Decision(
            best,
            tuple(scored),
            _because(scored, why),
            _keeps_all(best, situation),
            finish if best.rollback_step is None else None,
            _review(best, situation, hazard),
        )
    refused = refusal(situation, [s.candidate for s in scored], stop or why)
    return Decision(refused, (*scored, Scored(refused, 0.0)), refused.reason)


def candidates(
    situation: Situation, strategies: Sequence[Strategy] = STRATEGIES
) -> tuple[Candidate, ...]:
    """What all ``strategies`` propose: the costly part of a decision, and independent of time."""
    return tuple(one for strategy in strategies for one in strategy.propose(situation))


def within(situation: Situation, hazard: Hazard, policy: Policy, now_s: float) -> Situation:
    """``situation`` without the spares that are in quarantine."""
    banned = quarantined(situation, hazard, policy, now_s)
    if not banned:
        return situation
    spares = tuple(worker for worker in situation.spares if worker not in banned)
    return replace(situation, spares=spares)


def ending(situation: Situation) -> Plan | None:
    """A plan that leaves all work of the step under way where it is; None if none can."""
    here = replace(situation, leaving=frozenset(), spares=())
    whole = chains(here.plan, here.staying)
    return detours(here, whole, here.plan.schedule) if whole else None


def _keeps_all(one: Candidate, situation: Situation) -> bool:
    """Whether every survivor goes on holding what it holds, and nothing is moved."""
    if one.plan is None or one.moves or one.rollback_step is not None:
        return False
    held = parts(one.plan)
    return all(held.get(w, frozenset()) >= situation.held(w) for w in situation.survivors)


def _allowed(
    one: Candidate,
    situation: Situation,
    hazard: Hazard,
    policy: Policy,
    now_s: float,
    forbidden: str,
) -> Candidate:
    """``one``, infeasible with the reason if the policy or the time left forbids it."""
    if not one.feasible or one.plan is None:
        return one
    reason = forbidden
    if not reason and policy.strategies is not None and one.strategy not in policy.strategies:
        names = ", ".join(sorted(name.value for name in policy.strategies))
        reason = f"the policy allows {names} only"
    if not reason and (number := len(one.plan.workers)) < policy.min_workers:
        reason = f"{number} workers, and min_workers asks for {policy.min_workers}"
    if not reason and (ends_s := leaves_s(one.plan, situation, hazard)) is not None:
        left_s = ends_s - now_s
        if left_s <= _needed_s(one, situation) * (1 + 1e-9):
            reason = f"a worker of it leaves in {left_s:.3g} s"
    return replace(one, feasible=False, reason=reason) if reason else one


def _whole_way(one: Candidate, situation: Situation, finish: Plan | None) -> Candidate:
    """``one`` with all the time until it is in force.

    If the step under way has to be ended under another plan first, all meet twice. That counts only
    where an end is in sight: beside the time to the next failure it is nothing.
    """
    twice = (
        situation.steps_left is not None
        and situation.mid_step
        and finish is not None
        and one.rollback_step is None
        and not _keeps_all(one, situation)
    )
    return replace(one, transition_s=one.transition_s + situation.regroup_s) if twice else one


def _worth(
    one: Candidate, situation: Situation, hazard: Hazard, now_s: float, ends_s: float | None
) -> float:
    assert one.plan is not None, "a feasible candidate has a plan"
    exposed_s = None
    if one.single_holders and (safer := restored(one.plan, entered(one.plan, situation))):
        alone = set(one.single_holders) & set(safer.single_holders)
        if safer.feasible and not alone:
            exposed_s = one.transition_s + safer.transition_s + one.step_s
    return score(one, situation, hazard, now_s, exposed_s, ends_s)


def _needed_s(one: Candidate, situation: Situation) -> float:
    """For how long the workers of a plan must be there, for it to be worth the change."""
    return max(one.transition_s, situation.regroup_s) + LEAVE_STEPS * one.step_s


def _review(best: Candidate, situation: Situation, hazard: Hazard) -> float | None:
    """Just before a worker of the chosen plan leaves."""
    assert best.plan is not None, "a chosen candidate has a plan"
    ends_s = leaves_s(best.plan, situation, hazard)
    return None if ends_s is None else ends_s - _needed_s(best, situation)


def _because(scored: Sequence[Scored], why: str) -> str:
    best = scored[0]
    text = f"{best.candidate.strategy.value} is worth most, {best.score:.4g} samples/s"
    other = next(
        (
            s
            for s in scored[1:]
            if s.score > 0 and s.candidate.strategy is not best.candidate.strategy
        ),
        None,
    )
    if other:
        text += f" ({other.candidate.strategy.value}: {other.score:.4g})"
    return f"{text}; {why}" if why else text


def _written(one: Candidate) -> dict[str, object]:
    return {
        **asdict(replace(one, plan=None, moves=())),
        "strategy": one.strategy.value,
        "plan": None if one.plan is None else str(one.plan),
        "moves": [[str(move) for move in round_] for round_ in one.moves],
    }


def _read(data: Mapping[str, object]) -> Candidate:
    fields = {key: value for key, value in data.items() if key != "score"}
    plan, rounds, single = fields["plan"], fields["moves"], fields["single_holders"]
    if not isinstance(rounds, Iterable) or not isinstance(single, Iterable):
        raise TypeError("moves and single_holders are lists")
    fields.update(
        strategy=StrategyName(fields["strategy"]),
        plan=None if plan is None else Plan.parse(str(plan)),
        moves=tuple(tuple(map(Move.parse, round_)) for round_ in rounds),
        single_holders=tuple(single),
    )
    return Candidate(**fields)  # type: ignore[arg-type]
