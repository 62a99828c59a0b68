"""The one module that reads variables."""

from __future__ import annotations

import pytest

from ithaca.runtime import environment
from ithaca.runtime.environment import VARIABLES, Variable, changed, flag, read, snapshot


def test_unset_and_empty_mean_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = Variable("ITHACA_TEST_VARIABLE", "for this test", "7")
    monkeypatch.delenv(variable.name, raising=False)
    assert read(variable) == "7"
    monkeypatch.setenv(variable.name, "")
    assert read(variable) == "7"
    monkeypatch.setenv(variable.name, "8")
    assert read(variable) == "8"
    assert read(variable, {}) == "7"
    assert snapshot()[variable.name] == "8"


def test_flags_have_torchruns_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PET_LOG_DIR", "/logs")
    assert flag("log_dir") == "/logs"
    assert flag("log_dir_of_nobody") is None


def test_changes_are_undone_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITHACA_TEST_A", "old")
    monkeypatch.delenv("ITHACA_TEST_B", raising=False)

    def fail_within() -> None:
        with changed({"ITHACA_TEST_A": None, "ITHACA_TEST_B": "new"}):
            assert "ITHACA_TEST_A" not in snapshot()
            assert snapshot()["ITHACA_TEST_B"] == "new"
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert snapshot()["ITHACA_TEST_A"] == "old"
    assert "ITHACA_TEST_B" not in snapshot()


def test_every_variable_is_explained_once() -> None:
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names))
    assert all(variable.meaning.endswith(".") for variable in VARIABLES)
    declared = {value for value in vars(environment).values() if isinstance(value, Variable)}
    assert declared == set(VARIABLES)
