"""The face in Python: objectives, failures, pruning, budgets, journals, Optuna."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import optuna
import pytest

from ithaca.runtime.errors import UserError
from ithaca.tuners import Float, Int, Space, Tuner
from ithaca.tuners.attempt import Attempt
from ithaca.tuners.ladder import Fidelity
from ithaca.tuners.space import Config
from ithaca.tuners.trial import Failure, State

SPACE = {"x": {"float": [-5.0, 5.0]}, "k": {"choice": ["a", "b"]}}


def bowl(attempt: Attempt) -> float:
    """Its lowest value is 0, at x = 1 with b."""
    return (float(str(attempt["x"])) - 1) ** 2 + (attempt["k"] == "a")


def isolated(config: Config) -> float:
    """Hangs, dies or raises for some."""
    x = float(str(config["x"]))
    if x < -3:
        time.sleep(600)
    if x < -2:
        os._exit(7)
    if x < -1:
        raise MemoryError("too much")
    return x


def test_it_finds_the_minimum() -> None:
    tuner = Tuner(SPACE, n_trials=40, startup=8)
    assert tuner.optimize(bowl) == tuner.best_trial
    assert tuner.best_value < 0.3
    assert tuner.best_config["k"] == "b"


def test_several_threads_share_one_search() -> None:
    tuner = Tuner(SPACE, n_trials=24, n_jobs=3, surrogate="random")
    tuner.optimize(bowl)
    assert [trial.state for trial in tuner.trials] == [State.DONE] * 24


def test_failures_are_trials() -> None:
    def objective(attempt: Attempt) -> float:
        match attempt.number % 4:
            case 0:
                raise RuntimeError("as planned")
            case 1:
                return float("nan")
            case 2:
                raise MemoryError
        return 1.0

    tuner = Tuner(SPACE, n_trials=8, surrogate="random")
    tuner.optimize(objective)
    failures = [trial.failure for trial in tuner.trials[:4]]
    assert failures == [Failure.ERROR, Failure.NOT_A_NUMBER, Failure.MEMORY, None]
    assert "RuntimeError: as planned" in tuner.trials[0].reason


def test_an_objective_that_never_works_ends_with_its_reason() -> None:
    def objective(attempt: Attempt) -> float:
        raise KeyError("lr")

    tuner = Tuner(SPACE, n_trials=50, surrogate="random")
    with pytest.raises(UserError, match=r"(?s)first 10 trials all failed.*KeyError: 'lr'"):
        tuner.optimize(objective)
    with pytest.raises(UserError, match=r"none of 10 trials has a value: KeyError: 'lr'"):
        _ = tuner.best_trial


def test_slow_and_dying_trials_are_killed_in_their_own_process() -> None:
    tuner = Tuner({"x": {"float": [-4.0, 4.0]}}, n_trials=4, cap_s=0.5, surrogate="random")
    for x in (-3.5, -2.5, -1.5, 2.0):
        tuner.enqueue({"x": x})
    tuner.optimize(isolated, isolate=True)
    assert [trial.failure for trial in tuner.trials] == [
        Failure.TIME,
        Failure.ERROR,
        Failure.MEMORY,
        None,
    ]
    assert "exit code 7" in tuner.trials[1].reason


def test_the_timeout_ends_a_search_on_a_clock_of_ours() -> None:
    now = [100.0]

    def objective(attempt: Attempt) -> float:
        assert attempt.limit_s is not None
        now[0] += 3.0
        attempt.report(1.0, 1)
        return 1.0

    tuner = Tuner(SPACE, timeout=10.0, surrogate="random", clock=lambda: now[0])
    tuner.optimize(objective)
    assert [trial.failure for trial in tuner.trials] == [None, None, None, Failure.TIME]
    assert tuner.trials[3].limit_s == 1.0


def test_trials_that_fall_behind_are_pruned() -> None:
    steps = []

    def objective(attempt: Attempt) -> float:
        for step in range(1, 10):
            steps.append(attempt.number)
            attempt.report(float(attempt.number), step)
        return float(attempt.number)

    tuner = Tuner(SPACE, n_trials=6, pruning=Fidelity(1, 9), surrogate="random")
    tuner.optimize(objective)
    assert steps.count(0) == 9
    assert steps.count(5) == 1
    assert tuner.best_value == 0.0


def test_a_journal_goes_on_and_what_ran_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tuner = Tuner(SPACE, n_trials=6, journal=path, surrogate="random")
    for _ in range(3):
        attempt = tuner.ask()
        assert attempt is not None
        tuner.tell(attempt, bowl(attempt))
    running = tuner.ask()
    assert running is not None
    tuner.close()
    again = Tuner(SPACE, n_trials=6, journal=path, surrogate="random")
    resumed = again.ask()
    assert resumed is not None
    assert (resumed.number, resumed.config) == (running.number, running.config)
    again.tell(resumed, 1.0)
    again.optimize(bowl)
    assert len(again.trials) == 6
    again.close()


def test_the_state_can_be_carried_elsewhere() -> None:
    tuner = Tuner(SPACE, n_trials=12, startup=4)
    for _ in range(6):
        attempt = tuner.ask()
        assert attempt is not None
        tuner.tell(attempt, bowl(attempt))
    other = Tuner(SPACE, n_trials=12, startup=4)
    other.load_state_dict(json.loads(json.dumps(tuner.state_dict())))
    one, two = tuner.ask(), other.ask()
    assert one is not None
    assert two is not None
    assert one.config == two.config


def test_a_model_is_tried_with_its_default_first() -> None:
    spaces = {"a": Space.parse(SPACE), "b": Space.parse({"y": {"float": [-1, 9]}})}
    tuner = Tuner(models=spaces, defaults={"b": {"y": 2.0}}, n_trials=30)
    tuner.optimize(lambda attempt: float(len(attempt.config)))
    tried = [trial.config for trial in tuner.trials if trial.arm == "b"]
    assert tried[0] == {"y": 2.0}
    assert tried.count({"y": 2.0}) == 1
    twin = Tuner(models=spaces, n_trials=30)
    twin.load_state_dict(json.loads(json.dumps(tuner.state_dict())))
    assert twin.search.arms == tuner.search.arms


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"b": {"y": 10.0}}, "the default of b: y may not be 10.0"),
        ({"b": {}}, "the default of b: no value for y"),
        ({"c": {"y": 1.0}}, "defaults for c; models are: b"),
    ],
)
def test_defaults_that_are_none_are_refused(
    defaults: dict[str, dict[str, float]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Tuner(models={"b": {"y": {"float": [-1, 9]}}}, defaults=defaults, n_trials=1)
    with pytest.raises(UserError, match="in one space, enqueue what to try first"):
        Tuner(SPACE, defaults=defaults, n_trials=1)


def test_to_optuna_and_back() -> None:
    tuner = Tuner(models={"a": Space.parse(SPACE), "b": {"x": {"float": [-1, 9]}}}, n_trials=8)
    tuner.optimize(lambda attempt: float(str(attempt["x"])) ** 2)
    study = tuner.to_optuna()
    assert len(study.trials) == 8
    assert study.best_value == tuner.best_value
    assert study.best_params == tuner.best_config
    other = Tuner(models={"a": Space.parse(SPACE), "b": {"x": {"float": [-1, 9]}}}, n_trials=20)
    assert other.add_optuna(study) == 8
    assert other.best_value == tuner.best_value
    assert other.best_config == tuner.best_config
    with pytest.raises(UserError, match="direction is minimize"):
        Tuner(SPACE, direction="maximize", n_trials=1).add_optuna(study)


def test_several_objectives_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="multi-objective search is not supported"):
        Tuner(SPACE, direction=["minimize", "maximize"])
    with pytest.raises(UserError, match="multi-objective search is not supported"):
        Tuner(SPACE, n_trials=2).optimize(lambda attempt: (1.0, 2.0))  # type: ignore[arg-type]
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(UserError, match="multi-objective studies are not supported"):
        Tuner(SPACE, n_trials=2).add_optuna(study)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"policy": "max-ucb"}, "no policy 'max-ucb'; did you mean 'maxucb'"),
        ({"surrogate": "gp"}, "no surrogate 'gp'; there are: tpe, random"),
        ({"direction": "up"}, "'minimize' or 'maximize'; got 'up'"),
        ({"timeout": 0.0}, "budget_s must be above 0"),
        ({"n_jobs": 0}, "n_jobs is at least 1, or -1 for one on each core; got 0"),
        ({"models": {}}, "either a space, or models"),
    ],
)
def test_bad_settings_are_one_message(options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Tuner(SPACE, **{"n_trials": 3, **options})  # type: ignore[arg-type]


def test_a_search_is_extended() -> None:
    """As if it had been the longer one from the beginning, where nothing depends on its end."""
    short = Tuner(SPACE, n_trials=6, policy="random", surrogate="random", seed=5)
    short.optimize(bowl)
    short.extend(n_trials=11)
    short.optimize(bowl)
    long = Tuner(SPACE, n_trials=11, policy="random", surrogate="random", seed=5)
    long.optimize(bowl)
    assert [t.config for t in short.trials] == [t.config for t in long.trials]
    with pytest.raises(UserError, match="cannot be extended: what a budget is counted in stays"):
        short.extend(timeout=9.0)


def test_time_between_two_parts_of_a_search_does_not_count() -> None:
    now = [0.0]

    def a_second(attempt: Attempt) -> float:
        now[0] += 1.0
        return bowl(attempt)

    tuner = Tuner(SPACE, timeout=5.0, surrogate="random", clock=lambda: now[0])
    tuner.optimize(a_second)
    assert len(tuner.trials) == 5
    now[0] += 1000.0
    tuner.extend(timeout=8.0)
    tuner.optimize(a_second)
    assert len(tuner.trials) == 8


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to search"):
        Tuner({}, n_trials=3)


def test_minus_one_job_is_one_on_each_core() -> None:
    """As joblib has it, whom users of scikit-learn and Optuna know."""
    tuner = Tuner(SPACE, n_trials=3, n_jobs=-1)
    assert tuner.search.settings.workers == len(os.sched_getaffinity(0))


def test_a_search_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="needs an end"):
        Tuner({"x": Float(0, 1), "n": Int(1, 2)}).optimize(bowl)


def test_a_configuration_outside_of_the_space_is_refused() -> None:
    with pytest.raises(UserError, match="x may not be 9"):
        Tuner(SPACE, n_trials=1).enqueue({"x": 9.0, "k": "a"})
