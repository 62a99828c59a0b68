"""Model selection on tables in scikit-learn's way: ``ModelSelection(timeout=60).fit(x, y)``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from ithaca.runtime.errors import UserError
from ithaca.tuners.arm import parted
from ithaca.tuners.learners import CLASSIFIERS, Learner, defaults, evaluate
from ithaca.tuners.space import Config
from ithaca.tuners.trial import Trial
from ithaca.tuners.tuner import Tuner


def cross_validated(
    config: Config,
    *,
    learners: Mapping[str, Learner],
    data: tuple[Any, Any],
    folds: int,
    seed: int,
    scoring: str,
) -> float:
    """The objective: the score of the model that ``config`` names, in cross-validation."""
    name, own = parted(config)
    return evaluate(learners[name], own, *data, folds=folds, seed=seed, scoring=scoring)


class ModelSelection(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Searches learners and their hyperparameters, and fits the best on all rows.

    Each learner is tried with its default first, those that cost little before the others.

    Args:
        timeout: seconds for the search, from the first trial's begin to the last one's end.
        n_trials: trials in all; at least one of both is needed.
        learners: names of :data:`ithaca.tuners.learners.CLASSIFIERS`, or a mapping of your own.
        policy: how time is divided between learners.
        cap_s: longest time for one configuration.
        folds: of the cross-validation.
        scoring: scikit-learn's name of the score.
        n_jobs: configurations that are tried at once, each in a process of its own; -1 for one on
            each core.
        random_state: seed of everything.

    Attributes:
        best_estimator_: fitted on all rows.
        best_params_: the configuration, with the learner's name as ``model``.
        best_score_: of its cross-validation.
        trials_: all of them.
        classes_: labels, in order.
    """

    def __init__(
        self,
        *,
        timeout: float | None = 60.0,
        n_trials: int | None = None,
        learners: Sequence[str] | Mapping[str, Learner] | None = None,
        policy: str = "boasf+",
        cap_s: float | None = None,
        folds: int = 3,
        scoring: str = "balanced_accuracy",
        n_jobs: int = 1,
        random_state: int = 0,
    ) -> None:
        self.timeout = timeout
        self.n_trials = n_trials
        self.learners = learners
        self.policy = policy
        self.cap_s = cap_s
        self.folds = folds
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, x: Any, y: Any) -> ModelSelection:  # noqa: ANN401 - arrays
        """Search, then fit the best on all rows.

        Raises:
            UserError: the table cannot be used, a learner is unknown, or nothing could be fitted.
        """
        x, y = _checked(x, y, self.folds)
        learners = self._learners()
        self.classes_ = np.unique(y)
        tuner = Tuner(
            models={name: learner.space for name, learner in learners.items()},
            # The published policy is as it was published.
            defaults=None if self.policy == "boasf" else defaults(learners),
            direction="maximize",
            policy=self.policy,
            timeout=self.timeout,
            n_trials=self.n_trials,
            cap_s=self.cap_s,
            seed=self.random_state,
            n_jobs=self.n_jobs,
        )
        objective = partial(
            cross_validated,
            learners=learners,
            data=(x, y),
            folds=self.folds,
            seed=self.random_state,
            scoring=self.scoring,
        )
        tuner.optimize(objective, isolate=True)
        self.trials_: list[Trial] = tuner.trials
        self.best_params_ = tuner.best_config
        self.best_score_ = tuner.best_value
        name, own = parted(self.best_params_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.best_estimator_ = learners[name].build(own, self.random_state).fit(x, y)
        return self

    def predict(self, x: Any) -> Any:  # noqa: ANN401 - arrays
        """Labels by the best learner."""
        return self._fitted().predict(x)

    def predict_proba(self, x: Any) -> Any:  # noqa: ANN401 - arrays
        """Probabilities by the best learner, if it has such."""
        return self._fitted().predict_proba(x)

    def _fitted(self) -> Any:  # noqa: ANN401 - an estimator
        if not hasattr(self, "best_estimator_"):
            raise UserError("this model selection is not fitted yet: call fit first")
        return self.best_estimator_

    def _learners(self) -> Mapping[str, Learner]:
        if isinstance(self.learners, Mapping):
            return self.learners
        names = tuple(CLASSIFIERS) if self.learners is None else tuple(self.learners)
        unknown = [name for name in names if name not in CLASSIFIERS]
        if unknown:
            raise UserError(
                f"there is no learner {', '.join(unknown)}; there are: {', '.join(CLASSIFIERS)}"
            )
        return {name: CLASSIFIERS[name] for name in names}


def _checked(x: Any, y: Any, folds: int) -> tuple[Any, Any]:  # noqa: ANN401 - arrays
    """A table of numbers and its labels; ``UserError`` if no learner could use them."""
    if not hasattr(x, "__array__") and hasattr(x, "toarray"):
        raise UserError("fit takes a dense table; give x.toarray()")
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or len(x) != len(y):
        raise UserError(f"fit takes a table and as many labels; got shapes {x.shape} and {y.shape}")
    try:
        x = x if x.dtype.kind in "biuf" else x.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"fit takes a table of numbers: {error}. Encode what is none.") from error
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise UserError(
            f"fit takes labels of classes. {error} For numbers, search with Tuner and a model for "
            "regression."
        ) from error
    counts = np.unique(y, return_counts=True)[1]
    most = max(counts, default=0)
    if len(counts) < 2 or not 2 <= folds <= most:
        raise UserError(
            "cross-validation needs two classes or more, two folds or more, and a class with a "
            f"row for each of them; got {len(counts)} classes, the largest of {most} rows, and "
            f"folds={folds}"
        )
    return x, y
