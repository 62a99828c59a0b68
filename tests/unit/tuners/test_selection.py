"""Model selection in scikit-learn's way, on data that comes with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_iris

from ithaca.runtime.errors import UserError
from ithaca.tuners import ModelSelection
from ithaca.tuners.learners import CLASSIFIERS, evaluate

CHEAP = ["tree", "knn", "qda"]


def test_it_fits_the_best_of_several_learners() -> None:
    x, y = load_iris(return_X_y=True)
    model = ModelSelection(n_trials=9, timeout=None, learners=CHEAP, random_state=1)
    model = clone(model).fit(x, y)
    assert model.score(x, y) > 0.9
    assert {trial.arm for trial in model.trials_} == set(CHEAP)
    first = [next(t.config for t in model.trials_ if t.arm == name) for name in CHEAP]
    assert first == [CLASSIFIERS[name].default for name in CHEAP]
    assert model.best_score_ == max(t.value for t in model.trials_ if t.value is not None)
    assert model.predict_proba(x).shape == (150, 3)
    assert model.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_every_learner_can_be_built_from_its_space(name: str) -> None:
    x, y = load_iris(return_X_y=True)
    learner = CLASSIFIERS[name]
    assert learner.default is not None
    assert learner.space.check(learner.default) == learner.default
    config = learner.space.sample(np.random.default_rng(0))
    for key, cheap in (("n_estimators", 10), ("max_iter", 10)):
        if key in config:
            config[key] = cheap
    score = evaluate(learner, config, x, y, folds=2, seed=0, scoring="balanced_accuracy")
    assert 0.2 < score <= 1.0


def test_the_published_policy_begins_as_published() -> None:
    x, y = load_iris(return_X_y=True)
    model = ModelSelection(n_trials=9, timeout=None, learners=["tree"], policy="boasf").fit(x, y)
    assert model.trials_[0].config != CLASSIFIERS["tree"].default


def test_mistakes_are_one_message() -> None:
    x, y = load_iris(return_X_y=True)
    with pytest.raises(UserError, match="no learner lightgbm; there are: qda, tree"):
        ModelSelection(learners=["lightgbm"]).fit(x, y)
    with pytest.raises(UserError, match="a table and as many labels"):
        ModelSelection().fit(x, y[:5])
    with pytest.raises(UserError, match="n_jobs is at least 1, or -1 for one on each core; got 0"):
        ModelSelection(n_jobs=0).fit(x, y)
    with pytest.raises(UserError, match="a table of numbers: could not convert"):
        ModelSelection().fit([["red"], ["blue"]], ["a", "b"])
    with pytest.raises(UserError, match=r"labels of classes.*continuous"):
        ModelSelection().fit(x, x[:, 0])
    with pytest.raises(UserError, match="got 1 classes, the largest of 150 rows"):
        ModelSelection().fit(x, 0 * y)
    with pytest.raises(UserError, match="got 3 classes, the largest of 50 rows, and folds=51"):
        ModelSelection(folds=51).fit(x, y)
    with pytest.raises(UserError, match="give x"):
        ModelSelection().fit(csr_matrix(x), y)
    with pytest.raises(UserError, match="call fit first"):
        ModelSelection().predict(x)
