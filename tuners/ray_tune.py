"""``BOASFSearch``: our search as a search algorithm of Ray Tune.

::

    from ithaca.tuners.ray_tune import BOASFSearch

    searcher = BOASFSearch({"lr": {"float": [1e-4, 1e-1], "log": True}}, timeout=600)
    tune.Tuner(train, tune_config=tune.TuneConfig(search_alg=searcher, metric="loss", mode="min",
                                                  num_samples=-1, time_budget_s=600))

All of its state is in the searcher, which Tune saves and restores; a scheduler's it does not.
The class is made when it is asked for: importing this module imports no Ray.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ithaca.tuners.arm import blocks, models, whole
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Space
from ithaca.tuners.trial import Failure, State

__all__ = ["BOASFSearch"]  # noqa: F822 - made by __getattr__


def __getattr__(name: str) -> object:
    if name != "BOASFSearch":
        raise AttributeError(f"{__name__} has no {name!r}; it has BOASFSearch")
    return _searcher_class()


@cache
def _searcher_class() -> type[Any]:
    from ray.tune.search import Searcher

    class BOASFSearch(Searcher):  # type: ignore[misc, unused-ignore]
        """Searches a space of ours under Ray Tune.

        Args:
            space: parameters by name, as for :class:`ithaca.tuners.Tuner`.
            models: instead of it, a space for each model.
            arms: at most so many arms from halves of the ranges.
            policy: how trials are divided between arms.
            timeout: seconds that the policy divides; give Tune the same as time_budget_s.
            num_trials: trials that it divides, where there is no timeout.
            seed: of everything.
            metric, mode: as everywhere in Tune.
        """

        def __init__(
            self,
            space: Mapping[str, Any] | None = None,
            *,
            models: Mapping[str, Mapping[str, Any]] | None = None,
            arms: int = 1,
            policy: str = "boasf+",
            timeout: float | None = None,
            num_trials: int | None = None,
            workers: int = 1,
            seed: int = 0,
            metric: str | None = None,
            mode: str | None = None,
        ) -> None:
            super().__init__(metric=metric, mode=mode)
            self._parts = _arms(space, models, arms)
            self._options: dict[str, Any] = {
                "policy": policy,
                "budget_s": timeout,
                "num_trials": num_trials,
                "workers": workers,
                "seed": seed,
            }
            self._search: Search | None = None
            self._numbers: dict[str, int] = {}
            self._before_s = 0.0
            self._began_s: float | None = None

        def set_search_properties(
            self,
            metric: str | None,
            mode: str | None,
            config: Mapping[str, Any],
            **spec: object,
        ) -> bool:
            """What Tune was told; values of a ``param_space`` are not searched."""
            self._metric = metric or self._metric
            self._mode = mode or self._mode
            return True

        def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - Tune's own
            """A configuration; None while there is none, FINISHED at the end."""
            search, now_s = self._made(), self._now()
            asked = search.ask(now_s)
            if asked is None:
                return Searcher.FINISHED if search.over(now_s) else None
            self._numbers[trial_id] = asked.trial
            return search.full(asked)

        def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
            """Nothing: the last result of a trial counts, at its own number of iterations."""

        def on_trial_complete(
            self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
        ) -> None:
            """A value, or a failure."""
            search, number = self._made(), self._numbers.pop(trial_id, None)
            if number is None or search.trials[number].state is not State.RUNNING:
                return
            value = None if result is None else result.get(self._metric or "")
            now_s = self._now()
            search.tell(
                number,
                None if error else value,
                now_s=now_s,
                cost_s=now_s - search.trials[number].began_s,
                fidelity=None if result is None else int(result.get("training_iteration", 0)),
                failure=Failure.ERROR if error or value is None else None,
                reason="Tune tells of an error" if error else "",
            )

        def save(self, checkpoint_path: str) -> None:
            """Everything, as JSON: the whole new file, or the old one."""
            half = Path(f"{checkpoint_path}.half")
            half.write_text(json.dumps(self.get_state()))
            half.replace(checkpoint_path)

        def restore(self, checkpoint_path: str) -> None:
            """What :meth:`save` wrote."""
            self.set_state(json.loads(Path(checkpoint_path).read_text()))

        def get_state(self) -> dict[str, Any]:
            """Everything, as JSON values."""
            return {
                "search": self._search.state_dict() if self._search else None,
                "numbers": self._numbers,
                "now_s": self._now() if self._search else 0.0,
                "metric": self._metric,
                "mode": self._mode,
            }

        def set_state(self, state: Mapping[str, Any]) -> None:
            """Go on from there."""
            found = state["search"]
            self._search = Search.load_state_dict(found) if found else None
            self._numbers = dict(state["numbers"])
            self._before_s, self._began_s = float(state["now_s"]), None
            self._metric, self._mode = state["metric"], state["mode"]

        def _made(self) -> Search:
            if self._search is None:
                settings = Settings(maximize=self._mode == "max", **self._options)
                self._search = Search(settings, self._parts)
            return self._search

        def _now(self) -> float:
            if self._began_s is None:
                self._began_s = time.monotonic()
            return self._before_s + time.monotonic() - self._began_s

    return BOASFSearch


def _arms(
    space: Mapping[str, Any] | None, several: Mapping[str, Mapping[str, Any]] | None, most: int
) -> Any:  # noqa: ANN401 - arms
    if (space is None) == (several is None):
        raise ValueError("give either a space, or models with a space for each")
    if several is not None:
        return models({name: Space.parse(each) for name, each in several.items()})
    parsed = Space.parse(space or {})
    return blocks(parsed, most) if most > 1 else whole(parsed)
