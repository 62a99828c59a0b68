"""From a search to an Optuna study, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ithaca.runtime.errors import UserError
from ithaca.tuners.search import Search
from ithaca.tuners.space import Choice, Config, Domain, Float, Int, Parameter
from ithaca.tuners.surrogates.tpe import distribution, load_optuna
from ithaca.tuners.trial import State, Trial

if TYPE_CHECKING:
    import optuna

_STATES = {
    State.DONE: "COMPLETE",
    State.PAUSED: "PRUNED",
    State.FAILED: "FAIL",
    State.LOST: "WAITING",
    State.RUNNING: "RUNNING",
}


def export(search: Search) -> optuna.Study:
    """A study in memory with all trials; the arm of each is a user attribute.

    Ranges are those of the trial's arm; choices are joined over all arms, since Optuna wants the
    same ones for a name everywhere.
    """
    library = load_optuna()
    study: optuna.Study = library.create_study(
        direction="maximize" if search.settings.maximize else "minimize"
    )
    domains = _domains(search)
    for trial in search.trials.values():
        study.add_trial(_frozen(search, trial, domains))
    return study


def _frozen(search: Search, trial: Trial, domains: dict[str, Domain]) -> optuna.trial.FrozenTrial:
    library = load_optuna()
    full = search.full(trial)
    state = getattr(library.trial.TrialState, _STATES[trial.state])
    made: optuna.trial.FrozenTrial = library.trial.create_trial(
        state=state,
        value=trial.value if trial.state is State.DONE else None,
        params=full,
        distributions={name: distribution(domains[name]) for name in full},
        user_attrs={"arm": trial.arm, "cost_s": trial.cost_s, "reason": trial.reason},
        intermediate_values=dict(trial.curve),
    )
    return made


def _domains(search: Search) -> dict[str, Domain]:
    """For each name the domain that holds every arm's."""
    found: dict[str, Domain] = {}
    for arm in search.arms.values():
        parts = [*arm.space.parameters]
        parts += [Parameter(name, Choice((value,))) for name, value in arm.fixed]
        for part in parts:
            found[part.name] = _joined(part.name, found.get(part.name), part.domain)
    return found


def _joined(name: str, one: Domain | None, other: Domain) -> Domain:
    if one is None:
        return other
    if isinstance(one, Choice) and isinstance(other, Choice):
        more = tuple(option for option in other.options if not one.holds(option))
        return Choice(one.options + more)
    if isinstance(one, Choice) or isinstance(other, Choice) or type(one) is not type(other):
        raise UserError(
            f"{name} is of another kind in another arm; Optuna knows one kind for a name. "
            "Give it different names to export the search."
        )
    # A scale that any of them cannot have is not the joint one's.
    log = one.log and other.log
    if isinstance(one, Int) and isinstance(other, Int):
        return Int(min(one.low, other.low), max(one.high, other.high), log)
    return Float(min(one.low, other.low), max(one.high, other.high), log)


def known(study: optuna.Study, search: Search) -> list[tuple[Config, float]]:
    """The finished trials of ``study`` as configurations of the search, with their values.

    Raises:
        UserError: the study has several objectives, or another direction.
    """
    library = load_optuna()
    if len(study.directions) != 1:
        raise UserError("multi-objective studies are not supported: there is no one best value")
    maximize = study.direction is library.study.StudyDirection.MAXIMIZE
    if maximize is not search.settings.maximize:
        raise UserError(f"the study's direction is {study.direction.name.lower()}, not this one's")
    done = library.trial.TrialState.COMPLETE
    return [
        (dict(trial.params), float(trial.value))
        for trial in study.get_trials(states=(done,))
        if trial.value is not None
    ]
