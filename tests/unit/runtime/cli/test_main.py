"""The command line's frame: help, errors, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
import types
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import pytest

import ithaca
from ithaca.runtime.cli.main import BROKEN_PIPE, COMMANDS, INTERRUPTED, main
from ithaca.runtime.errors import UserError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Makes ``ithaca check`` do something else."""

    def replace(action: Callable[[], int]) -> None:
        def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
            commands.add_parser("check").set_defaults(run=lambda arguments: action())

        module = types.SimpleNamespace(register=register)
        monkeypatch.setitem(sys.modules, "ithaca.runtime.cli.check", module)

    return replace


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_names_every_command(words: list[str], capsys: Capture) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in out


def test_no_command_is_a_mistake(capsys: Capture) -> None:
    assert main([]) == 2
    assert "usage: ithaca" in capsys.readouterr().out


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ithaca {ithaca.__version__}\n"


def test_unknown_command(capsys: Capture) -> None:
    assert main(["chekc", "job.yaml"]) == 2
    assert "no command 'chekc'; did you mean 'check'?" in capsys.readouterr().err


def test_unknown_flag(capsys: Capture) -> None:
    assert main(["check", "--frobnicate", "job.yaml"]) == 2
    assert "--frobnicate" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "tune"])
@pytest.mark.parametrize(
    "words",
    [
        ["job.yaml", "a=1", "b=2", "--resume"],
        ["job.yaml", "a=1", "--resume", "b=2"],
        ["job.yaml", "--resume", "a=1", "b=2"],
        ["--resume", "job.yaml", "a=1", "b=2"],
    ],
)
def test_an_option_may_stand_anywhere(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[argparse.Namespace] = []
    module = import_module(f"ithaca.runtime.cli.{name}")

    def run(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(module, "run", run)
    assert main([name, *words]) == 0
    assert seen[0].overrides == ["a=1", "b=2"]
    assert seen[0].resume


@pytest.mark.parametrize(
    "words",
    [
        ["run", "job.yaml", "--resume", "a=1", "--frobnicate"],
        ["report", "folder", "another"],
    ],
)
def test_words_too_many_are_refused(words: list[str], capsys: Capture) -> None:
    assert main(words) == 2
    assert f"unrecognized arguments: {words[-1]}" in capsys.readouterr().err.replace("a=1 ", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_that_registers(name: str, capsys: Capture) -> None:
    assert find_spec(f"ithaca.runtime.cli.{name}") is not None
    assert main([name, "--help"]) == 0
    assert f"usage: ithaca {name}" in capsys.readouterr().out


def test_a_mistake_of_the_user(do: Callable[..., None], capsys: Capture) -> None:
    def action() -> int:
        raise UserError("do this")

    do(action)
    assert main(["check"]) == 2
    assert capsys.readouterr().err == "ithaca: do this\n"


def test_the_exit_code_is_the_commands(do: Callable[..., None]) -> None:
    do(lambda: 1)
    assert main(["check"]) == 1


def test_interrupted(do: Callable[..., None], capsys: Capture) -> None:
    def action() -> int:
        raise KeyboardInterrupt

    do(action)
    assert main(["check"]) == INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_of_ours_is_not_hidden(do: Callable[..., None]) -> None:
    def action() -> int:
        raise ZeroDivisionError

    do(action)
    with pytest.raises(ZeroDivisionError):
        main(["check"])


def test_a_reader_that_goes_away() -> None:
    code = (
        "import sys, ithaca.runtime.cli.main as m; m._help = lambda: 'x' * 10**6; "
        "sys.exit(m.main(['--help']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=30) == BROKEN_PIPE
    assert errors == ""


def test_help_costs_no_torch_and_no_ray() -> None:
    code = (
        "import sys; from ithaca.runtime.cli.main import main; main(['--help']); "
        "sys.exit(bool({'torch', 'ray', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0
