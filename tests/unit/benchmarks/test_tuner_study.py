"""The study of the tuner: what a play costs, what a table answers, and who is asked."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tuner import live
from benchmarks.tuner import study as module
from benchmarks.tuner.nearest import Nearest
from benchmarks.tuner.opponents import exchange
from benchmarks.tuner.players import PLAYERS, Asked
from benchmarks.tuner.replay import COLUMNS, configurations, measure, pack, read
from benchmarks.tuner.study import cells, play
from benchmarks.tuner.table import Table, names
from ithaca.tuners.learners import CLASSIFIERS, Learner
from ithaca.tuners.space import Choice, Config, Float, Int, Parameter, Space, When
from tests.helpers.mutated import mutated

X = Space((Parameter("x", Float(0.0, 1.0)),))


def partly(config: Config, epochs: int) -> tuple[float, float]:
    """Worth x after all ten epochs, less before; an epoch takes a second."""
    x = float(str(config["x"]))
    return x * epochs / 10, float(epochs)


TABLE = Table("t", X, lambda config: partly(config, 10), 1.0, 0.0, 10.0, partly, 10)


class Script:
    """Asks what a test says, and remembers what it was told."""

    def __init__(self, *asked: Asked) -> None:
        self.asked = list(asked)
        self.told: list[tuple[int, float | None, float, float]] = []

    def ask(self, now_s: float) -> Asked | None:
        """The next one."""
        return self.asked.pop(0) if self.asked else None

    def tell(self, asked: Asked, value: float | None, now_s: float, cost_s: float) -> None:
        """Remember."""
        self.told.append((asked.key, value, now_s, cost_s))

    def close(self) -> None:
        """Nothing."""


def promoted() -> Script:
    """Two short trainings; the better one goes on to its end."""
    a: Config = {"x": 0.25}
    b: Config = {"x": 0.5}
    return Script(Asked(0, a, None, 2), Asked(1, b, None, 2), Asked(1, b, None, 10))


def test_a_training_that_goes_on_costs_what_is_new() -> None:
    script = promoted()
    auc, final, count = play(script, TABLE, 20.0)
    assert script.told == [(0, 0.05, 2.0, 2.0), (1, 0.1, 4.0, 2.0), (1, 0.5, 12.0, 8.0)]
    assert (final, count) == (0.5, 2)
    # Regret 1 for 2 s, that of x = 0.25 for 2 s, that of 0.5 from then on.
    assert auc == pytest.approx((2 * 1.0 + 2 * 0.75 + 16 * 0.5) / 20)


def test_what_was_paid_twice_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a play that forgets what was trained."""
    mutant = mutated(monkeypatch, module, "until - spent.get(asked.key, 0.0)", "until")
    script = promoted()
    mutant.play(script, TABLE, 20.0)
    assert script.told[-1] == (1, 0.5, 14.0, 10.0)


def test_limits_and_the_budget_cut_an_evaluation() -> None:
    script = Script(Asked(0, {"x": 0.5}, 3.0), Asked(1, {"x": 0.25}), Asked(2, {"x": 1.0}))
    auc, final, count = play(script, TABLE, 15.0)
    assert script.told == [(0, None, 3.0, 3.0), (1, 0.25, 13.0, 10.0), (2, None, 15.0, 2.0)]
    assert (final, count) == (0.75, 3)
    assert auc == pytest.approx((13 * 1.0 + 2 * 0.75) / 15)


def test_the_nearest_cell_answers() -> None:
    space = Space(
        (
            Parameter("c", Float(1.0, 100.0, log=True)),
            Parameter("kind", Choice(("a", "b"))),
            Parameter("degree", Int(2, 5), When("kind", ("b",))),
        )
    )
    grid: list[Config] = [
        {"c": 1.0, "kind": "a"},
        {"c": 100.0, "kind": "a"},
        {"c": 10.0, "kind": "b", "degree": 2},
        {"c": 10.0, "kind": "b", "degree": 5},
    ]
    table = Nearest(space, [(config, float(i), 1.0) for i, config in enumerate(grid)])
    for index, config in enumerate(grid):
        assert table.look_up(config) == (index, 1.0)
    # On the logarithmic scale 9 is nearer to 1 than to 100 among those of the same kind.
    assert table.look_up({"c": 9.0, "kind": "a"})[0] == 0
    assert table.look_up({"c": 10.0, "kind": "b", "degree": 4})[0] == 3


def test_cells_of_a_replay_table_are_the_same_again(tmp_path: Path) -> None:
    learner = CLASSIFIERS["tree"]
    config = configurations(learner, 3)[2]
    assert config == configurations(learner, 5)[2]
    random = np.random.default_rng(0)
    data = random.random((60, 3)), random.integers(0, 2, 60)
    first, again = measure(learner, config, data), measure(learner, config, data)
    assert first["value"] == again["value"]
    assert first["failure"] == ""
    path, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    line = ["tree", "2", first["value"], first["seconds"], "", "{}"]
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(line)}\ntorn")
    assert [list(row.values()) for row in read(path)] == [line]
    pack(path, packed)
    assert read(packed) == read(path)


def test_a_live_evaluation_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counted(learner: Learner, config: Config, data: tuple[Any, Any]) -> dict[str, str]:
        computed.append(config)
        return measure(learner, config, data)

    monkeypatch.setattr(live, "measure", counted)
    random = np.random.default_rng(0)
    x, y = random.random((60, 3)), random.integers(0, 2, 60)
    look_up = live.evaluated((x, y))
    config = {"model": "tree"} | configurations(CLASSIFIERS["tree"], 1)[0]
    value, seconds = look_up(config)
    assert look_up(dict(reversed(config.items()))) == (value, seconds)
    assert len(computed) == 1
    assert "model" not in computed[0]
    assert 0.0 < value <= 1.0
    assert seconds > 0.0
    # A learner that cannot be trained on them is worth nothing, and costs what it cost.
    assert live.evaluated((x[:2], y[:2]))(config)[0] == 0.0


def test_who_is_measured_where() -> None:
    everybody = list(PLAYERS)
    selection = {c.player for c in cells("development", "selection", (20,), 1, everybody)}
    assert {"boasf+", "boasf", "maxucb", "optuna tpe", "smac", "random"} <= selection
    assert not {"asha", "bohb", "tpe+hyperband"} & selection
    assert {"boasf+ blind", "maxucb defaults"} <= selection
    real = cells("test", "live", (20,), 1, everybody)
    assert {c.player for c in real} == selection
    assert {c.kind for c in real} == {"live"}
    assert {c.dataset for c in real} < set(names("test", "selection")["replay"])
    single = cells("development", "hyperparameters", (20, 200), 6, everybody)
    assert {c.kind for c in single if c.player in ("asha", "bohb")} == {"lcbench"}
    slow = [c for c in single if c.player in ("smac", "bohb")]
    assert {(c.budget, c.seed) for c in slow} == {(20, seed) for seed in range(5)}


def test_seeds_differ_from_set_to_set_and_not_from_player_to_player() -> None:
    some = cells("development", "hyperparameters", (20,), 2, ["random", "boasf+"])
    seeds = {(c.dataset, c.kind, c.seed): c.drawn for c in some}
    assert len(set(seeds.values())) == len(seeds) == len(some) / 2
    assert all(c.drawn == seeds[c.dataset, c.kind, c.seed] for c in some)


class Echo:
    """An opponent that asks for what it was begun with."""

    def __init__(self, begin: exchange.Begin) -> None:
        self.begin = begin
        self.told: list[float | None] = []

    def ask(self) -> exchange.Asked | None:
        """Once."""
        if self.told:
            return None
        return exchange.Asked(7, {"x": self.begin.seed}, 2 if self.begin.ladder else None)

    def tell(self, key: int, value: float | None, cost_s: float) -> None:
        """Remember."""
        self.told.append(value)


def test_an_opponent_is_asked_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"": X.spec()}
    orders = [
        {
            "do": "begin",
            "models": models,
            "seed": 3,
            "ladder": {"least": 2, "most": 9, "factor": 3},
        },
        {"do": "ask"},
        {"do": "tell", "key": 7, "value": None, "cost_s": 1.0},
        {"do": "ask"},
    ]
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(o) + "\n" for o in orders)))
    monkeypatch.setattr(sys, "stdout", out)
    exchange.serve(Echo)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        True, [7, {"x": 3}, 2], True, None,
    ]  # fmt: skip


def test_models_in_one_space_have_their_own_names() -> None:
    found = exchange.plain({"model": "svc", "svc:C": 2.0, "knn:p": 1, "svc:degree": None})
    assert found == {"model": "svc", "C": 2.0}
    assert exchange.full_name("svc", "C") == "svc:C"
    assert exchange.plain({"x": np.float64(0.5)}) == {"x": 0.5}
