"""The face of a search in Python: a space, an objective, a budget."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ithaca.runtime.errors import UserError
from ithaca.tuners.arm import Arm, blocks, models, whole
from ithaca.tuners.attempt import Attempt, Pruned, TimeUp
from ithaca.tuners.isolation import Child, Ended
from ithaca.tuners.journal import Journal, open_journal
from ithaca.tuners.ladder import Fidelity, leads
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Config, Space, Value
from ithaca.tuners.trial import Asked, Event, Failure, State, Trial

if TYPE_CHECKING:
    import optuna

Objective = Callable[[Attempt], float]
Remote = Callable[[Config], float]
_HOPELESS = 10
"""So many trials without a single value end a search: the mistake is in the objective."""

_MULTI = (
    "multi-objective search is not supported: a search has one value that is as high, or as low, "
    "as possible. Give one direction, and return one number (a weighted sum, or one objective "
    "with the other as a constraint that fails the trial)."
)


class Tuner:
    """Searches a space for the configuration with the best value.

    Args:
        space: parameters by name, as for :meth:`Space.parse`; or, with ``models``, left away.
        models: for model selection: a space for each model. The chosen model's name is in every
            configuration as ``model``.
        defaults: for some of the models, the configuration that is tried first.
        direction: ``minimize`` or ``maximize``.
        arms: ``blocks``: halves of the ranges are arms, at most so many; 1 for one arm.
        policy: ``boasf+``, ``boasf`` (as published), ``maxucb``, ``halving``, ``round-robin``,
            ``random``.
        n_trials: trials in all, over all calls of :meth:`optimize`.
        timeout: seconds from the first ask to the end of the last trial.
        cap_s: longest time for one trial; without it ``boasf+`` has patience for five times the
            mean, or a twentieth of ``timeout``.
        seed: of every random number.
        n_jobs: trials that :meth:`optimize` lets run at once; -1 for one on each core.
        surrogate: ``tpe`` (Optuna's) or ``random``.
        startup: random configurations in each arm before the surrogate is asked.
        pruning: rungs at which trials that fall behind end, by what they report.
        journal: a file for every event; if it is there already, the search goes on from it.
        clock: seconds, for the budget.

    Raises:
        UserError: the settings cannot be used, or the journal belongs to another search.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | Space | None = None,
        *,
        models: Mapping[str, Mapping[str, Any] | Space] | None = None,
        defaults: Mapping[str, Mapping[str, Value]] | None = None,
        direction: str | Sequence[str] = "minimize",
        arms: int = 1,
        policy: str = "boasf+",
        n_trials: int | None = None,
        timeout: float | None = None,
        cap_s: float | None = None,
        seed: int = 0,
        n_jobs: int = 1,
        surrogate: str | None = None,
        startup: int | None = None,
        pruning: Fidelity | None = None,
        journal: Path | str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._pruning = pruning
        self._lock = threading.Condition()
        self._origin: float | None = None
        self._attempts: dict[int, Attempt] = {}
        self._rungs: dict[int, list[float]] = {}
        self._journal: Journal | None = None
        try:
            self._n_jobs = _at_once(n_jobs)
            settings = Settings(
                policy=policy,
                seed=seed,
                maximize=_maximizes(direction),
                budget_s=timeout,
                num_trials=n_trials,
                cap_s=cap_s,
                workers=self._n_jobs,
                surrogate=surrogate,
                startup=startup,
            )
            parts = _arms(space, models, defaults, arms)
            if journal is None:
                self.search = Search(settings, parts)
            else:
                self._journal, self.search = open_journal(Path(journal), settings, parts)
                self._take_up()
        except ValueError as error:
            raise UserError(f"this search cannot be begun: {error}") from error

    # -- ask and tell

    def ask(self) -> Attempt | None:
        """The next trial; None while there is none, or when the budget is used up."""
        with self._lock:
            asked = self._noted(lambda: self.search.ask(self._now()))
            return None if asked is None else self._attempt(asked)

    def tell(
        self,
        attempt: Attempt | int,
        value: float | None = None,
        *,
        failure: Failure | None = None,
        reason: str = "",
    ) -> None:
        """The value of a trial, or why it has none."""
        number = attempt if isinstance(attempt, int) else attempt.number
        with self._lock:
            known = self._attempts.pop(number, None)
            cost_s = known.elapsed_s if known is not None else 0.0
            fidelity = None
            if self._pruning is not None and known is not None:
                fidelity = known.rung or self._pruning.least
            self._noted(
                lambda: self.search.tell(
                    number,
                    value,
                    now_s=self._now(),
                    cost_s=cost_s,
                    fidelity=fidelity,
                    failure=failure,
                    reason=reason,
                )
            )
            self._lock.notify_all()

    def enqueue(self, config: Mapping[str, Value], value: float | None = None) -> None:
        """Try this configuration first; with its value, take it as known instead.

        Raises:
            UserError: it lies outside of the space.
        """
        with self._lock:
            try:
                self._noted(lambda: self.search.want(config, value))
            except ValueError as error:
                raise UserError(f"this configuration cannot be tried: {error}") from error

    def extend(self, *, n_trials: int | None = None, timeout: float | None = None) -> None:
        """Go on to so many trials, or so many seconds, in all; what is left away stays.

        The time since the last trial does not count.

        Raises:
            UserError: the policy is ``boasf``, or there was no such end before.
        """
        with self._lock:
            s = self.search.settings
            try:
                self._noted(
                    lambda: self.search.extend(
                        s.budget_s if timeout is None else timeout,
                        s.num_trials if n_trials is None else n_trials,
                    )
                )
            except ValueError as error:
                raise UserError(f"this search cannot be extended: {error}") from error
            if not self.search.running:
                self._stand_still()

    # -- a whole search

    def optimize(
        self,
        objective: Objective | Remote,
        *,
        catch: tuple[type[Exception], ...] = (Exception,),
        isolate: bool = False,
    ) -> Trial:
        """Try configurations until the budget is used up; the best trial.

        Args:
            objective: from an attempt to its value. Called in ``n_jobs`` threads.
            catch: exceptions that fail a trial and not the search.
            isolate: call it in processes of their own, as ``objective(config)``; they are killed
                when a trial's time is up. It must be possible to pickle it.

        Raises:
            UserError: no budget was given, every trial fails, or there are several objectives.
        """
        if self.search.settings.budget_s is None and self.search.settings.num_trials is None:
            raise UserError("a search needs an end: give the tuner n_trials, timeout, or both")
        if isolate:
            remote = cast(Remote, objective)
            runs = [_Isolated(remote) for _ in range(self._n_jobs)]
            loops: list[Callable[[Attempt], Ended]] = [run.run for run in runs]
        else:
            runs = []
            here = cast(Objective, objective)
            loops = [lambda a: _called(here, a, catch)] * self._n_jobs
        try:
            if len(loops) == 1:
                self._work(loops[0])
            else:
                with ThreadPoolExecutor(len(loops)) as pool:
                    for done in [pool.submit(self._work, loop) for loop in loops]:
                        done.result()
        finally:
            for run in runs:
                run.close()
        return self.best_trial

    def _work(self, run: Callable[[Attempt], Ended]) -> None:
        while True:
            with self._lock:
                attempt = None
                while attempt is None:
                    asked = self._noted(lambda: self.search.ask(self._now()))
                    if asked is not None:
                        attempt = self._attempt(asked)
                    elif not self.search.running:
                        return
                    else:
                        self._lock.wait(0.05)
            try:
                ended = run(attempt)
            except BaseException:
                self._lose(attempt.number, attempt.elapsed_s)
                raise
            self.tell(attempt, ended.value, failure=ended.failure, reason=ended.reason)
            self._check_hope(ended)

    def _check_hope(self, ended: Ended) -> None:
        trials = list(self.search.trials.values())
        if len(trials) >= _HOPELESS and all(t.state is State.FAILED for t in trials[:_HOPELESS]):
            raise UserError(
                f"the first {_HOPELESS} trials all failed, the last one so:\n{ended.reason}"
            )

    # -- what was found

    @property
    def trials(self) -> list[Trial]:
        """All of them, in order."""
        return list(self.search.trials.values())

    @property
    def best_trial(self) -> Trial:
        """The trial with the best value.

        Raises:
            UserError: no trial has a value.
        """
        best = self.search.best
        if best is None:
            reasons = {t.reason.strip().rpartition("\n")[2] for t in self.trials if t.reason}
            told = f": {'; '.join(sorted(reasons))}" if reasons else ""
            raise UserError(f"none of {len(self.trials)} trials has a value{told}")
        return best

    @property
    def best_value(self) -> float:
        """Of the best trial."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_config(self) -> Config:
        """Of the best trial, in full."""
        return self.search.full(self.best_trial)

    def state_dict(self) -> dict[str, Any]:
        """Everything about the search, as JSON values."""
        return self.search.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what another tuner's :meth:`state_dict` told; what ran there runs again."""
        self.search = Search.load_state_dict(state)
        self._take_up()

    def to_optuna(self) -> optuna.Study:
        """An Optuna study with all trials."""
        from ithaca.tuners.optuna_study import export

        return export(self.search)

    def add_optuna(self, study: optuna.Study) -> int:
        """Take the finished trials of an Optuna study as known; how many.

        Raises:
            UserError: its direction is another one, or its parameters do not lie in the space.
        """
        from ithaca.tuners.optuna_study import known

        found = known(study, self.search)
        for config, value in found:
            self.enqueue(config, value)
        return len(found)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    # -- inside

    def _now(self) -> float:
        if self._origin is None:
            self._origin = self._clock()
        return self._clock() - self._origin

    def _noted(self, act: Callable[[], Event | None]) -> Any:  # noqa: ANN401 - what act returns
        event = act()
        if event is not None and self._journal is not None:
            self._journal.write(event)
        return event

    def _take_up(self) -> None:
        """What ran when the journal ended is lost; the clock goes on from its last event."""
        self._stand_still()
        for trial in self.search.running:
            self._lose(trial.number, 0.0)

    def _stand_still(self) -> None:
        """No time has passed since the last trial began or ended."""
        last = 0.0
        for trial in self.search.trials.values():
            last = max(last, trial.began_s, trial.ended_s)
        self._origin = self._clock() - last if self.search.trials else None

    def _lose(self, number: int, cost_s: float) -> None:
        """A trial ended without a result that is its own."""
        with self._lock:
            now_s = self._now()
            self._noted(lambda: self.search.lose(number, now_s=now_s, cost_s=cost_s))
            self._lock.notify_all()

    def _attempt(self, asked: Asked) -> Attempt:
        attempt = Attempt(
            asked.trial,
            asked.arm,
            self.search.full(asked),
            asked.limit_s,
            self._clock,
            self._leads,
            self._pruning.rungs()[:-1] if self._pruning else (),
        )
        self._attempts[asked.trial] = attempt
        return attempt

    def _leads(self, number: int, rung: int, value: float) -> bool:
        """Whether a trial is among the best of all that reached ``rung``, or among the first."""
        assert self._pruning is not None
        value = value if self.search.settings.maximize else -value
        with self._lock:
            here = self._rungs.setdefault(rung, [])
            here.append(value)
            few = len(here) < self._pruning.factor
            return few or leads(here, value, self._pruning.factor)


class _Isolated:
    """An objective in a process of its own."""

    def __init__(self, objective: Remote) -> None:
        self._child = Child(objective)

    def run(self, attempt: Attempt) -> Ended:
        """Its value, or why there is none."""
        return self._child.run(attempt.config, attempt.limit_s)

    def close(self) -> None:
        """End the process."""
        self._child.close()


def _called(objective: Objective, attempt: Attempt, catch: tuple[type[Exception], ...]) -> Ended:
    try:
        value = objective(attempt)
    except Pruned:
        return Ended(attempt.curve[-1][1])
    except TimeUp as error:
        return Ended(None, Failure.TIME, str(error))
    except catch as error:
        return Ended.failed(error)
    if isinstance(value, tuple | list):
        raise UserError(_MULTI)
    return Ended(float(value))


def _maximizes(direction: str | Sequence[str]) -> bool:
    if not isinstance(direction, str):
        if len(direction) != 1:
            raise UserError(_MULTI)
        direction = direction[0]
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction is 'minimize' or 'maximize'; got {direction!r}")
    return direction == "maximize"


def _at_once(n_jobs: int) -> int:
    """Trials at once; -1 means every core that this process may use, as in joblib."""
    if n_jobs == -1:
        return len(os.sched_getaffinity(0))
    if n_jobs < 1:
        raise ValueError(f"n_jobs is at least 1, or -1 for one on each core; got {n_jobs}")
    return n_jobs


def _arms(
    space: Mapping[str, Any] | Space | None,
    several: Mapping[str, Mapping[str, Any] | Space] | None,
    defaults: Mapping[str, Mapping[str, Value]] | None,
    most: int,
) -> tuple[Arm, ...]:
    if (space is None) == (several is None):
        raise ValueError("give either a space, or models with a space for each")
    if several is not None:
        spaces = {name: _space(each) for name, each in several.items()}
        return models(spaces, defaults=defaults)
    if defaults is not None:
        raise ValueError("defaults are those of models; in one space, enqueue what to try first")
    assert space is not None
    one = _space(space)
    if not one.parameters:
        raise ValueError("the space is empty: there is nothing to search")
    return blocks(one, most) if most > 1 else whole(one)


def _space(space: Mapping[str, Any] | Space) -> Space:
    return space if isinstance(space, Space) else Space.parse(space)
