"""The search: deterministic, saved and loaded, replayed from a journal cut at any byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ithaca.tuners import search as search_module
from ithaca.tuners.arm import blocks
from ithaca.tuners.journal import JournalError, open_journal, read_journal
from ithaca.tuners.ladder import Fidelity, leads
from ithaca.tuners.policies.registry import POLICIES
from ithaca.tuners.search import Search, Settings
from ithaca.tuners.space import Space
from ithaca.tuners.trial import Asked, Event, Failure, State, from_json, to_json
from tests.helpers.mutated import mutated

SPACE = Space.parse(
    {
        "x": {"float": [1e-3, 1.0], "log": True},
        "y": {"float": [0.0, 1.0]},
        "k": {"choice": ["a", "b"]},
        "n": {"int": [1, 9], "when": {"k": ["b"]}},
    }
)
ARMS = blocks(SPACE, 4)
LADDER = Fidelity(1, 9, 3)

programs = st.lists(
    st.sampled_from(
        ["ask", "ask", "ask", "value", "value", "equal", "fail", "nan", "lose", "extend"]
    ),
    max_size=40,
)


def play(search: Search, program: list[str], first: int = 0) -> list[Event]:
    """What happens when the words are carried out; a word that cannot be is left out."""
    events: list[Event] = []
    for index, word in enumerate(program, first):
        now_s, running = float(index), search.running
        if word == "ask":
            asked = search.ask(now_s) if len(running) < 3 else None
            events += [asked] if asked else []
        elif word == "extend":
            if search.settings.policy != "boasf":
                extended = search.extend(60.0 + index, None)
                events += [extended] if extended else []
        elif running:
            trial = running[index % len(running)]
            fidelity, cost = trial.target, now_s - trial.began_s
            if word == "lose":
                events.append(search.lose(trial.number, now_s=now_s, cost_s=cost))
                continue
            failure = Failure.ERROR if word == "fail" else None
            value = {"equal": 0.5, "nan": math.nan}.get(word, math.sin(trial.number))
            events.append(
                search.tell(
                    trial.number,
                    None if failure else value,
                    now_s=now_s,
                    cost_s=cost,
                    fidelity=fidelity,
                    failure=failure,
                )
            )
    return events


def made(policy: str, ladder: bool, seed: int = 3) -> Settings:
    """Settings of a small search whose surrogate is asked early."""
    return Settings(
        policy=policy,
        seed=seed,
        budget_s=60.0,
        workers=3,
        startup=3,
        surrogate="random",
        fidelity=LADDER if ladder else None,
    )


@given(st.sampled_from(sorted(POLICIES)), st.booleans(), programs)
@settings(max_examples=60)
def test_a_search_is_what_its_events_make_of_it(
    policy: str, ladder: bool, program: list[str]
) -> None:
    live = Search(made(policy, ladder), ARMS)
    events = play(live, program)
    again = Search(made(policy, ladder), ARMS)
    assert play(again, program) == events
    replayed = Search(made(policy, ladder), ARMS)
    for event in events:
        replayed.apply(from_json(json.loads(json.dumps(to_json(event)))))
    loaded = Search.load_state_dict(json.loads(json.dumps(live.state_dict())))
    for other in (again, replayed, loaded):
        assert other.state_dict() == live.state_dict()
    more = ["ask", "value"] * 4
    expected = play(live, more, len(program))
    assert play(replayed, more, len(program)) == expected
    assert play(loaded, more, len(program)) == expected


def test_the_surrogate_goes_on_where_it_was() -> None:
    """As above, with Optuna's TPE, which keeps a study between asks."""
    live = Search(Settings(num_trials=40, startup=4), ARMS[:2])
    play(live, ["ask", "value"] * 12)
    loaded = Search.load_state_dict(json.loads(json.dumps(live.state_dict())))
    expected = play(live, ["ask", "ask", "value", "value"] * 2, 24)
    assert play(loaded, ["ask", "ask", "value", "value"] * 2, 24) == expected
    assert expected[0] != expected[1]


@given(st.sampled_from(sorted(POLICIES)), programs, st.integers(0, 10**9))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_cut_anywhere_is_the_state_of_its_whole_lines(
    tmp_path: Path, policy: str, program: list[str], where: int
) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    journal, live = open_journal(path, made(policy, True), ARMS)
    with journal:
        events = play(live, program)
        for event in events:
            journal.write(event)
    whole = path.read_bytes()
    cut = where % (len(whole) + 1)
    path.write_bytes(whole[:cut])
    lines = max(whole[:cut].count(b"\n") - 1, 0)
    expected = Search(made(policy, True), ARMS)
    for event in events[:lines]:
        expected.apply(event)
    # With the end that it has come to: another one would be an event of its own.
    journal, found = open_journal(path, expected.settings, ARMS)
    with journal:
        assert found.state_dict() == expected.state_dict()
        for event in events[lines:]:
            found.apply(event)
            journal.write(event)
    assert path.read_bytes() == whole
    assert read_journal(path)[0].state_dict() == live.state_dict()


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    open_journal(path, made("boasf+", True), ARMS)[0].close()
    with pytest.raises(JournalError, match=r"settings\.seed"):
        open_journal(path, made("boasf+", True, seed=4), ARMS)
    with pytest.raises(JournalError, match="arms"):
        open_journal(path, made("boasf+", True), ARMS[:1])


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal, search = open_journal(path, made("boasf+", True), ARMS)
    with journal:
        for event in play(search, ["ask", "value"] * 3):
            journal.write(event)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{}\n", *lines[4:]]))
    with pytest.raises(JournalError, match=r"jsonl:4: damaged"):
        open_journal(path, made("boasf+", True), ARMS)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))  # a line is missing
    with pytest.raises(JournalError, match="damaged"):
        open_journal(path, made("boasf+", True), ARMS)


def test_a_state_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a search that loses its policy's state asks for something else."""
    mutant = mutated(
        monkeypatch,
        search_module,
        'search._policy.parse(state["turn"])',
        "search._policy.begin(tuple(search.arms))",
    )
    live = Search(made("round-robin", False), ARMS)
    play(live, ["ask", "value"] * 3)
    loaded = mutant.Search.load_state_dict(live.state_dict())
    assert loaded.state_dict() != live.state_dict()


def test_a_lost_trial_goes_on_first_and_is_not_blamed() -> None:
    search = Search(made("boasf+", True), ARMS)
    first = search.ask(0.0)
    assert first is not None
    search.lose(first.trial, now_s=2.0, cost_s=2.0, fidelity=0)
    again = search.ask(2.0)
    assert again == Asked(first.trial, first.arm, first.config, 1, 58.0, True, 2.0)
    assert search.trials[0].failure is None
    assert not search._book.accounts[first.arm].failures


def test_promotion_continues_the_best_paused_trial() -> None:
    search = Search(made("random", True), ARMS[:1])
    values = [0.1, 0.9, 0.5]
    for number, value in enumerate(values):
        asked = search.ask(float(number))
        assert asked is not None
        assert (asked.fidelity, asked.resumed) == (1, False)
        search.tell(asked.trial, value, now_s=number + 1.0, cost_s=1.0, fidelity=1)
    asked = search.ask(4.0)
    assert asked is not None
    assert (asked.trial, asked.fidelity, asked.resumed) == (1, 3, True)
    search.tell(1, 0.95, now_s=5.0, cost_s=1.0, fidelity=3)
    assert search.trials[1].state is State.PAUSED
    assert search.trials[1].curve == ((1, 0.9), (3, 0.95))


def test_the_ladder_and_who_leads() -> None:
    assert Fidelity(2, 50, 3).rungs() == (5, 16, 50)
    assert Fidelity(7, 7).rungs() == (7,)
    assert leads([3.0, 2.0, 1.0], 3.0, 3)
    assert not leads([3.0, 2.0, 1.0], 2.0, 3)
    assert not leads([3.0, 2.0], 3.0, 3)
    with pytest.raises(ValueError, match="least <= most"):
        Fidelity(9, 3)


def test_limits_hold_the_budget_and_the_cap() -> None:
    search = Search(Settings(policy="random", budget_s=10.0, cap_s=4.0), ARMS)
    asked = search.ask(8.0)
    assert asked is not None
    assert asked.limit_s == 2.0
    search.tell(asked.trial, None, failure=Failure.TIME, now_s=10.0, cost_s=2.0)
    assert search.ask(10.0) is None
    assert search.over(10.0)
    assert search.best is None


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_equal_values_never_stop_a_policy(policy: str) -> None:
    search = Search(Settings(policy=policy, num_trials=40, surrogate="random"), ARMS)
    events = play(search, ["ask", "equal"] * 40)
    assert sum(isinstance(event, Asked) for event in events) >= (36 if policy == "boasf" else 40)


def test_a_wanted_configuration_comes_first_and_a_known_value_counts() -> None:
    search = Search(Settings(num_trials=5, surrogate="random", maximize=False), ARMS)
    search.want({"x": 0.5, "y": 0.5, "k": "a"})
    search.want({"x": 0.1, "y": 0.1, "k": "b", "n": 3}, value=-7.0)
    asked = search.ask(0.0)
    assert asked is not None
    assert search.full(asked) == {"x": 0.5, "y": 0.5, "k": "a"}
    assert search.best is not None
    assert search.best.value == -7.0
    with pytest.raises(ValueError, match="in none of 4 arms"):
        search.want({"x": 0.1, "y": 0.1, "k": "b", "n": 10})
