"""What a trial may cost: hand-computed cases, and that a search holds it."""

from __future__ import annotations

import math

import pytest

from ithaca.tuners.arm import whole
from ithaca.tuners.ladder import Fidelity
from ithaca.tuners.patience import patience_s
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Space
from ithaca.tuners.trial import Asked, Failure, State, Trial

ARMS = whole(Space.parse({"x": {"float": [0, 1]}}))


def ended(cost_s: float, *curve: tuple[int, float], **more: object) -> Trial:
    """A trial that cost so much."""
    late = more.get("failure") is Failure.TIME
    fields = {"state": State.FAILED if late else State.DONE} | more
    return Trial(0, "", {}, curve=curve, cost_s=cost_s, **fields)  # type: ignore[arg-type]


def test_without_a_value_there_is_all_the_time() -> None:
    late = ended(50.0, failure=Failure.TIME)
    broken = ended(0.1, failure=Failure.ERROR, state=State.FAILED)
    known = ended(0.0, (0, 1.0), runs=0)  # told from elsewhere: what it cost is not known
    assert patience_s([], None, 100.0) == math.inf
    assert patience_s([late, broken, known], None, 100.0) == math.inf


def test_five_times_the_mean_or_a_twentieth_of_the_budget() -> None:
    some = [ended(1.0, (0, 1.0)), ended(3.0, (0, 2.0))]
    assert patience_s(some, None, 100.0) == 10.0
    assert patience_s(some, None, 1000.0) == 50.0


def test_it_grows_where_many_take_long_and_not_with_what_breaks_early() -> None:
    first = ended(2.0, (0, 1.0))
    late = ended(10.0, failure=Failure.TIME)
    broken = ended(0.0, failure=Failure.ERROR, state=State.FAILED)
    assert patience_s([first, broken], None, 1.0) == 10.0
    assert patience_s([first, broken, late], None, 1.0) == 30.0


def test_with_fidelities_a_unit_of_them_is_compared() -> None:
    short = ended(2.0, (2, 1.0), target=2, state=State.PAUSED)
    long = ended(9.0, (2, 1.0), (6, 2.0), target=6)
    late = ended(12.0, (2, 1.0), target=6, failure=Failure.TIME)
    assert patience_s([short, long], 6, 1.0) == pytest.approx(5 * (1.0 + 1.5) / 2 * 6)
    assert patience_s([short, long, late], 2, 1.0) == pytest.approx(5 * (1.0 + 1.5 + 2.0) / 3 * 2)


def limits(settings: Settings, costs: list[float]) -> list[float | None]:
    """How long each trial of a search may take, if it costs so much."""
    search, now, found = Search(settings, ARMS), 0.0, list[float | None]()
    for cost in costs:
        asked = search.ask(now)
        assert isinstance(asked, Asked)
        found.append(asked.limit_s)
        late = asked.limit_s is not None and cost > asked.limit_s
        spent = min(cost, asked.limit_s or cost)
        now += spent
        search.tell(
            asked.trial,
            None if late else 1.0,
            now_s=now,
            cost_s=spent,
            failure=Failure.TIME if late else None,
        )
    return found


def test_a_search_ends_what_takes_far_longer_than_the_rest() -> None:
    found = limits(Settings(budget_s=1000.0, surrogate="random"), [20.0, 20.0, 400.0, 20.0])
    assert found == pytest.approx([1000.0, 100.0, 100.0, 5 * (20.0 + 20.0 + 100.0) / 3])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(budget_s=1000.0, surrogate="random", policy="random"),
        Settings(budget_s=1000.0, surrogate="random", cap_s=900.0),
        Settings(num_trials=9, surrogate="random"),
    ],
)
def test_other_policies_a_cap_and_counted_trials_have_all_patience(settings: Settings) -> None:
    found = limits(settings, [1.0, 1.0, 1.0])
    assert all(limit is None or limit > 800 for limit in found)


def test_a_trial_that_was_lost_is_not_hurried() -> None:
    search = Search(Settings(budget_s=1000.0, surrogate="random", fidelity=Fidelity(3, 9)), ARMS)
    for now, cost in ((0.0, 1.0), (1.0, 1.0)):
        asked = search.ask(now)
        assert asked is not None
        search.tell(asked.trial, 1.0, now_s=now + 1, cost_s=cost, fidelity=3)
    asked = search.ask(2.0)
    assert asked is not None
    search.lose(asked.trial, now_s=60.0, cost_s=58.0)
    again = search.ask(60.0)
    assert again is not None
    assert (again.trial, again.limit_s) == (asked.trial, 940.0)
