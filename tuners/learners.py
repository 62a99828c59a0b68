"""scikit-learn's classifiers and the spaces that model selection searches for each.

Ranges are those in common use (auto-sklearn, HPOBench), on the scales that they are used on.
Learners whose time grows without bound have a limit on their iterations. What is tried of a learner
first is scikit-learn's default, or what of the space is next to it, and a smaller one where that
takes long; learners that cost little come first (decisions 0100 and 0104).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sklearn import ensemble
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from ithaca.tuners.space import Choice, Config, Float, Int, Parameter, Space, When


@dataclass(frozen=True, slots=True)
class Learner:
    """A way to make an estimator from a configuration.

    Attributes:
        build: from values and a seed to an estimator with ``fit`` and ``predict``.
        space: of the values.
        default: values that are tried first; None for what is proposed.
    """

    build: Callable[[Config, int], Any]
    space: Space
    default: Config | None = None


def _space(**domains: Any) -> Space:  # noqa: ANN401 - domains, or a domain and its condition
    return Space(
        tuple(
            Parameter(name, each[0], each[1]) if isinstance(each, tuple) else Parameter(name, each)
            for name, each in domains.items()
        )
    )


def _forest(kind: str, config: Config, seed: int) -> Any:  # noqa: ANN401 - scikit-learn's
    return getattr(ensemble, kind)(random_state=seed, n_jobs=1, **config)


def _boosting(config: Config, seed: int) -> Any:  # noqa: ANN401
    return ensemble.HistGradientBoostingClassifier(
        random_state=seed, early_stopping=False, **config
    )


def _scaled(make: Callable[[Config, int], Any], config: Config, seed: int) -> Any:  # noqa: ANN401
    return make_pipeline(StandardScaler(), make(config, seed))


def _support_vectors(config: Config, seed: int) -> Any:  # noqa: ANN401
    return SVC(random_state=seed, max_iter=20_000, cache_size=100, **config)


def _neighbours(config: Config, seed: int) -> Any:  # noqa: ANN401
    return KNeighborsClassifier(n_jobs=1, **config)


def _logistic(config: Config, seed: int) -> Any:  # noqa: ANN401
    return LogisticRegression(random_state=seed, max_iter=200, **config)


def _descent(config: Config, seed: int) -> Any:  # noqa: ANN401
    return SGDClassifier(random_state=seed, max_iter=100, **config)


def _tree(config: Config, seed: int) -> Any:  # noqa: ANN401
    return DecisionTreeClassifier(random_state=seed, **config)


def _perceptron(config: Config, seed: int) -> Any:  # noqa: ANN401
    values = dict(config)
    layers = (int(str(values.pop("width"))),) * int(str(values.pop("depth")))
    return MLPClassifier(layers, random_state=seed, max_iter=60, **values)


def _discriminant(config: Config, seed: int) -> Any:  # noqa: ANN401
    return QuadraticDiscriminantAnalysis(**config)


_TREES = _space(
    n_estimators=Int(10, 200, log=True),
    max_features=Float(0.05, 1.0),
    min_samples_leaf=Int(1, 20, log=True),
    criterion=Choice(("gini", "entropy")),
)

_FIRST_TREES: Config = {
    "n_estimators": 30,
    "max_features": 0.3,
    "min_samples_leaf": 1,
    "criterion": "gini",
}

CLASSIFIERS: Mapping[str, Learner] = {
    "qda": Learner(
        partial(_scaled, _discriminant), _space(reg_param=Float(0.0, 1.0)), {"reg_param": 0.1}
    ),
    "tree": Learner(
        _tree,
        _space(
            max_depth=Int(1, 30, log=True),
            min_samples_leaf=Int(1, 50, log=True),
            criterion=Choice(("gini", "entropy")),
        ),
        {"max_depth": 30, "min_samples_leaf": 1, "criterion": "gini"},
    ),
    "knn": Learner(
        partial(_scaled, _neighbours),
        _space(
            n_neighbors=Int(1, 100, log=True),
            weights=Choice(("uniform", "distance")),
            p=Choice((1, 2)),
        ),
        {"n_neighbors": 5, "weights": "uniform", "p": 2},
    ),
    "logistic": Learner(
        partial(_scaled, _logistic), _space(C=Float(1e-4, 1e3, log=True)), {"C": 1.0}
    ),
    "sgd": Learner(
        partial(_scaled, _descent),
        _space(
            loss=Choice(("hinge", "log_loss", "modified_huber")),
            penalty=Choice(("l2", "l1", "elasticnet")),
            alpha=Float(1e-7, 0.1, log=True),
            l1_ratio=(Float(0.0, 1.0), When("penalty", ("elasticnet",))),
        ),
        {"loss": "hinge", "penalty": "l2", "alpha": 1e-4},
    ),
    "svc": Learner(
        partial(_scaled, _support_vectors),
        _space(
            C=Float(0.03, 1000.0, log=True),
            kernel=Choice(("rbf", "poly", "sigmoid")),
            gamma=Float(1e-4, 8.0, log=True),
            degree=(Int(2, 5), When("kernel", ("poly",))),
        ),
        {"C": 1.0, "kernel": "rbf", "gamma": 0.05},
    ),
    "extra_trees": Learner(partial(_forest, "ExtraTreesClassifier"), _TREES, _FIRST_TREES),
    "mlp": Learner(
        partial(_scaled, _perceptron),
        _space(
            width=Int(8, 128, log=True),
            depth=Int(1, 3),
            alpha=Float(1e-7, 0.1, log=True),
            learning_rate_init=Float(1e-4, 0.1, log=True),
        ),
        {"width": 50, "depth": 1, "alpha": 1e-4, "learning_rate_init": 1e-2},
    ),
    "boosting": Learner(
        _boosting,
        _space(
            learning_rate=Float(0.01, 1.0, log=True),
            max_iter=Int(10, 100, log=True),
            max_leaf_nodes=Int(3, 63, log=True),
            l2_regularization=Float(1e-6, 10.0, log=True),
        ),
        {"learning_rate": 0.1, "max_iter": 30, "max_leaf_nodes": 31, "l2_regularization": 1e-6},
    ),
    "random_forest": Learner(partial(_forest, "RandomForestClassifier"), _TREES, _FIRST_TREES),
}
"""Ten learners by name."""


def defaults(learners: Mapping[str, Learner]) -> dict[str, Config]:
    """What is tried first, of those learners that have such a configuration."""
    known = {name: learner.default for name, learner in learners.items()}
    return {name: config for name, config in known.items() if config is not None}


def evaluate(
    learner: Learner,
    config: Config,
    x: Any,  # noqa: ANN401 - arrays
    y: Any,  # noqa: ANN401
    *,
    folds: int,
    seed: int,
    scoring: str,
) -> float:
    """Mean score of stratified cross-validation; deterministic for a seed."""

    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # That a learner did not converge shows in its score.
        warnings.simplefilter("ignore")
        scores = cross_val_score(
            learner.build(config, seed), x, y, cv=split, scoring=scoring, error_score="raise"
        )
    return float(scores.mean())
