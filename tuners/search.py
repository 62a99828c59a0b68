"""The search: asks, tells, and nothing else. No clock, no process, no file.

Every change is one event, and the state is what the events make of it: whoever applies the same
events has the same state, and asks for the same trial next.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

from ithaca.tuners.arm import Arm, arm_of
from ithaca.tuners.book import Book
from ithaca.tuners.ladder import Fidelity, promotable
from ithaca.tuners.patience import patience_s
from ithaca.tuners.policies.registry import find_policy
from ithaca.tuners.space import Config, Value
from ithaca.tuners.surrogates.registry import find_surrogate
from ithaca.tuners.surrogates.surrogate import Observation, Surrogate, load
from ithaca.tuners.trial import Asked, Event, Extended, Failure, Lost, State, Told, Trial, Wanted


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides a search.

    Attributes:
        policy: name of the policy.
        seed: of every random number.
        maximize: whether high values are good.
        budget_s: seconds from the first ask to the end of the last trial; None for no end.
        num_trials: trials in all; None for no end. Policies that divide a budget divide this one
            if there is no other.
        cap_s: longest time for one trial; if None, what the policy has patience for.
        workers: trials that run at once.
        surrogate: name; the policy's own choice if None.
        startup: random configurations in each arm; the policy's own number if None.
        fidelity: the ladder; None where trials run to their end at once.
    """

    policy: str = "boasf+"
    seed: int = 0
    maximize: bool = True
    budget_s: float | None = None
    num_trials: int | None = None
    cap_s: float | None = None
    workers: int = 1
    surrogate: str | None = None
    startup: int | None = None
    fidelity: Fidelity | None = None

    def __post_init__(self) -> None:
        find_policy(self.policy)
        for name in ("budget_s", "cap_s", "num_trials"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0; got {value}")

    def spec(self) -> dict[str, Any]:
        """As JSON values; :meth:`parse` reads them."""
        return asdict(self)

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Settings:
        """The settings that :meth:`spec` told of."""
        ladder = data["fidelity"]
        return Settings(**{**data, "fidelity": Fidelity(**ladder) if ladder else None})


class Search:
    """A search over some arms.

    Attributes:
        settings: what decides it.
        arms: in order.
        trials: by number.
    """

    def __init__(self, settings: Settings, arms: Sequence[Arm]) -> None:
        names = [arm.name for arm in arms]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"arms need names that differ, at least one; got {names}")
        self.settings = settings
        self.arms = {arm.name: arm for arm in arms}
        self.trials: dict[int, Trial] = {}
        self._policy = find_policy(settings.policy)(settings.seed)
        startup = settings.startup
        if startup is None:
            startup = self._policy.startup(len(names))
        self._turn: Any = self._policy.begin(tuple(names))
        self._counted = _unit(settings) == "trials"
        self._book = Book(
            names,
            budget_s=_divided(settings),
            cap_s=math.inf if self._counted else _or_inf(settings.cap_s),
            workers=settings.workers,
            maximize=settings.maximize,
        )
        kind = settings.surrogate or ("tpe" if self._policy.guided else "random")
        build = find_surrogate(kind)
        self._surrogates: dict[str, Surrogate] = {
            arm.name: build(arm.space, _seed(settings.seed, arm.name), startup) for arm in arms
        }
        self._wanted: list[Wanted] = []

    # -- what happens

    def ask(self, now_s: float) -> Asked | None:
        """The next trial to run; None while there is none, or when the search is over.

        ``now_s``: seconds since the first ask.
        """
        event = self._next(now_s)
        if event is not None:
            self.apply(event)
        return event

    def tell(
        self,
        trial: int,
        value: float | None,
        *,
        now_s: float,
        cost_s: float,
        fidelity: int | None = None,
        failure: Failure | None = None,
        reason: str = "",
    ) -> Told:
        """A running trial has a value, or failed. A value that is no number is a failure.

        Raises:
            ValueError: the trial does not run, or there is neither value nor failure.
        """
        self._running(trial)
        if failure is None and value is None:
            raise ValueError(f"trial {trial} is told neither a value nor a failure")
        if failure is None and (value is None or not math.isfinite(value)):
            failure, reason = Failure.NOT_A_NUMBER, reason or f"the value is {value}"
        if failure is not None:
            value = None
        value = None if value is None else float(value)
        event = Told(trial, value, failure, cost_s, fidelity, now_s, reason)
        self.apply(event)
        return event

    def lose(self, trial: int, *, now_s: float, cost_s: float, fidelity: int | None = None) -> Lost:
        """A running trial's worker is gone: it will go on first, and is not blamed."""
        self._running(trial)
        event = Lost(trial, cost_s, now_s, fidelity)
        self.apply(event)
        return event

    def want(
        self,
        config: Mapping[str, Value],
        value: float | None = None,
        cost_s: float = 0.0,
    ) -> Wanted:
        """Try this full configuration first; or take its value as known.

        Raises:
            SpaceError: it lies in no arm.
        """
        arm = arm_of(tuple(self.arms.values()), config)
        event = Wanted(arm.name, arm.own(config), value, cost_s)
        self.apply(event)
        return event

    def extend(self, budget_s: float | None, num_trials: int | None) -> Extended | None:
        """Let the search end at another time, or behind another number of trials, in all.

        Returns:
            None where both are what they were.

        Raises:
            ValueError: the policy cannot, or the budget would be counted in another unit.
        """
        if (budget_s, num_trials) == (self.settings.budget_s, self.settings.num_trials):
            return None
        event = Extended(budget_s, num_trials)
        self.apply(event)
        return event

    def apply(self, event: Event) -> None:
        """Take an event in that :meth:`ask` or another method made, here or in a journal.

        Raises:
            ValueError: it does not follow from the state.
        """
        match event:
            case Asked():
                self._asked(event)
            case Told():
                before = self._running(event.trial)
                most = self.settings.fidelity.most if self.settings.fidelity else None
                self._enter(before.told(event, most), before)
                self._observe(event)
            case Lost():
                before = self._running(event.trial)
                self._enter(before.lost(event), before)
            case Wanted():
                if event.value is None:
                    self._wanted.append(event)
                else:
                    self._known(event)
            case Extended():
                self._extended(event)

    # -- what is known

    def over(self, now_s: float) -> bool:
        """Whether nothing more may be asked for: time or trials are used up."""
        s = self.settings
        asked = s.num_trials is not None and len(self.trials) >= s.num_trials
        paused = any(t.state in (State.LOST, State.PAUSED) for t in self.trials.values())
        return (s.budget_s is not None and now_s >= s.budget_s) or (asked and not paused)

    @property
    def best(self) -> Trial | None:
        """The trial with the best value; None without one."""
        valued = [trial for trial in self.trials.values() if trial.value is not None]
        # A trial that ran out of time keeps what it had reached; one that broke does not.
        valued = [trial for trial in valued if trial.failure in (None, Failure.TIME)]
        return max(valued, key=self._rank, default=None)

    def _rank(self, trial: Trial) -> tuple[float, int]:
        assert trial.value is not None
        return self._book.reward(trial.value), -trial.number

    @property
    def running(self) -> tuple[Trial, ...]:
        """Trials that run."""
        return tuple(t for t in self.trials.values() if t.state is State.RUNNING)

    def alive(self) -> tuple[str, ...]:
        """Arms that may still be chosen."""
        return self._policy.alive(self._turn, tuple(self.arms))

    def full(self, trial: Trial | Asked) -> Config:
        """The configuration of a trial with what its arm fixes."""
        return self.arms[trial.arm].full(trial.config)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "settings": self.settings.spec(),
            "arms": [arm.spec() for arm in self.arms.values()],
            "trials": [trial.to_json() for trial in self.trials.values()],
            "turn": _turn_to_json(self._turn),
            "surrogates": {name: each.state() for name, each in self._surrogates.items()},
            "wanted": [asdict(wanted) for wanted in self._wanted],
        }

    @staticmethod
    def load_state_dict(state: Mapping[str, Any]) -> Search:
        """The search that :meth:`state_dict` told of."""
        search = Search(
            Settings.parse(state["settings"]), [Arm.parse(arm) for arm in state["arms"]]
        )
        for data in state["trials"]:
            trial = Trial.parse(data)
            search.trials[trial.number] = trial
            search._book.restore(trial, search._cost(trial), search._began(trial))
        search._turn = search._policy.parse(state["turn"]) if state["turn"] is not None else None
        for name, told in state["surrogates"].items():
            load(search._surrogates[name], told)
        search._wanted = [Wanted(**wanted) for wanted in state["wanted"]]
        return search

    # -- inside

    def _next(self, now_s: float) -> Asked | None:
        if self.settings.budget_s is not None and now_s >= self.settings.budget_s:
            return None
        lost = next((t for t in self.trials.values() if t.state is State.LOST), None)
        if lost is not None:
            return self._go_on(lost, lost.target, math.inf, now_s)
        number = len(self.trials)
        full = self.settings.num_trials is not None and number >= self.settings.num_trials
        if self._wanted and not full:
            wanted = self._wanted[0]
            return self._begin(wanted.arm, wanted.config, math.inf, now_s)
        choice = self._policy.next(self._turn, self._book, self._clock(now_s))
        if choice is None:
            return None
        pull = choice[0]
        limit_s = math.inf if self._counted else pull.limit_s
        ladder = self.settings.fidelity
        if ladder is not None:
            everybody = self.trials.values()
            mine = [t for t in everybody if full or t.arm == pull.arm]
            trial = promotable(mine, everybody, ladder, self._book.reward)
            if trial is not None:
                target = ladder.after(trial.fidelity)
                left_s = self._patience_s(trial.arm, target) - trial.cost_s
                return self._go_on(trial, target, min(limit_s, max(left_s, 0.0)), now_s)
        if full:
            return None
        first = ladder.rungs()[0] if ladder is not None else None
        limit_s = min(limit_s, self._patience_s(pull.arm, first))
        return self._begin(pull.arm, self._proposed(pull.arm), limit_s, now_s)

    def _patience_s(self, arm: str, target: int | None) -> float:
        """What a trial of an arm may cost; a cap in the settings is the user's own word on that."""
        s = self.settings
        if self._policy.patient or s.budget_s is None or s.cap_s is not None:
            return math.inf
        return patience_s((t for t in self.trials.values() if t.arm == arm), target, s.budget_s)

    def _proposed(self, arm: str) -> Config:
        """An arm's default first, then what its surrogate says."""
        default = self.arms[arm].default
        if default is not None and all(t.arm != arm for t in self.trials.values()):
            return dict(default)
        pending = [t.config for t in self.running if t.arm == arm]
        return self._surrogates[arm].ask(len(self.trials), pending)

    def _begin(self, arm: str, config: Config, limit_s: float, now_s: float) -> Asked:
        ladder = self.settings.fidelity
        first = ladder.rungs()[0] if ladder else None
        limit = self._limit(limit_s, 0.0, now_s)
        return Asked(len(self.trials), arm, dict(config), first, limit, False, now_s)

    def _go_on(self, trial: Trial, target: int | None, limit_s: float, now_s: float) -> Asked:
        limit = self._limit(limit_s, trial.cost_s, now_s)
        return Asked(trial.number, trial.arm, trial.config, target, limit, True, now_s)

    def _limit(self, limit_s: float, spent_s: float, now_s: float) -> float | None:
        s = self.settings
        if s.cap_s is not None:
            limit_s = min(limit_s, max(s.cap_s - spent_s, 0.0))
        if s.budget_s is not None:
            limit_s = min(limit_s, s.budget_s - now_s)
        return None if math.isinf(limit_s) else limit_s

    def _clock(self, now_s: float) -> float:
        """The policy's time: seconds, or runs that ended where trials are counted."""
        if not self._counted:
            return now_s
        return float(sum(account.ended for account in self._book.accounts.values()))

    def _cost(self, trial: Trial) -> float:
        """What a trial has cost so far, in the policy's unit."""
        if not self._counted:
            return trial.cost_s
        return float(trial.runs - (trial.state is State.RUNNING))

    def _began(self, trial: Trial) -> float:
        return self._clock(trial.began_s) if self._counted else trial.began_s

    def _asked(self, event: Asked) -> None:
        if event.arm not in self.arms:
            raise ValueError(f"there is no arm {event.arm!r}")
        if event.resumed:
            before = self.trials.get(event.trial)
            if before is None or before.state not in (State.PAUSED, State.LOST):
                raise ValueError(f"trial {event.trial} is not paused")
            advances = before.state is State.PAUSED
        else:
            before = None
            if event.trial != len(self.trials):
                raise ValueError(f"trial {event.trial} is out of order")
            wanted = bool(self._wanted)
            if wanted:
                first = self._wanted.pop(0)
                if (first.arm, first.config) != (event.arm, event.config):
                    raise ValueError(f"trial {event.trial} is not the one that was wanted")
            advances = not wanted
        if advances:
            choice = self._policy.next(self._turn, self._book, self._clock(event.now_s))
            if choice is None:
                raise ValueError(f"trial {event.trial}: the policy would ask for nothing")
            self._turn = choice[1]
        after = Trial.begin(event) if before is None else before.goes_on(event)
        self._enter(after, before)

    def _enter(self, after: Trial, before: Trial | None) -> None:
        self.trials[after.number] = after
        known = None if before is None else replace(before, cost_s=self._cost(before))
        self._book.enter(
            known, replace(after, cost_s=self._cost(after), began_s=self._began(after))
        )

    def _observe(self, event: Told) -> None:
        trial = self.trials[event.trial]
        fidelity = (trial.target if event.value is None else event.fidelity) or 0
        reward = None if event.value is None else self._book.reward(event.value)
        if reward is None and trial.curve and event.failure is Failure.TIME:
            return  # that it goes on slowly says nothing new of its values
        self._surrogates[trial.arm].tell(Observation(trial.config, fidelity, reward))

    def _known(self, event: Wanted) -> None:
        """A trial that ran elsewhere."""
        assert event.value is not None
        most = self.settings.fidelity.most if self.settings.fidelity else 0
        trial = Trial(
            len(self.trials),
            event.arm,
            event.config,
            State.DONE,
            ((most, event.value),),
            runs=0,
        )
        self._enter(trial, None)
        self._surrogates[event.arm].tell(
            Observation(event.config, most, self._book.reward(event.value))
        )

    def _extended(self, event: Extended) -> None:
        after = replace(self.settings, budget_s=event.budget_s, num_trials=event.num_trials)
        if not self._policy.extends:
            raise ValueError(
                f"{self._policy.name} deals its whole budget out beforehand: a search of it keeps "
                "the budget that it began with"
            )
        if _unit(after) != _unit(self.settings):
            raise ValueError(
                f"what a budget is counted in stays: {_unit(self.settings)}, not {_unit(after)}"
            )
        self.settings = after
        self._book.budget_s = _divided(after)

    def _running(self, number: int) -> Trial:
        trial = self.trials.get(number)
        if trial is None or trial.state is not State.RUNNING:
            state = "unknown" if trial is None else trial.state.value
            raise ValueError(f"trial {number} is {state}: it does not run")
        return trial


def _unit(settings: Settings) -> str:
    """In what a budget is counted: seconds, or trials where there is no budget of time."""
    if settings.budget_s is not None:
        return "seconds"
    return "nothing" if settings.num_trials is None else "trials"


def _divided(settings: Settings) -> float:
    """How much of it policies divide; infinite where there is none."""
    budget = settings.num_trials if settings.budget_s is None else settings.budget_s
    return math.inf if budget is None else float(budget)


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


def _seed(seed: int, name: str) -> int:
    return (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def _turn_to_json(turn: Any) -> Any:  # noqa: ANN401 - a policy's own state
    if turn is None:
        return None
    if not is_dataclass(turn) or isinstance(turn, type):
        return {"value": turn}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(turn).items()
    }
