"""``ithaca COMMAND ...``: finds the command, runs it, and turns errors into exit codes.

Only the chosen command's module is imported, so that help and mistakes cost no torch and no Ray.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import ithaca
from ithaca.runtime.errors import UserError

if TYPE_CHECKING:
    from ithaca.runtime.cli.commands import Commands

COMMANDS = {
    "run": "train: progress, a run folder, a report",
    "check": "every value with its origin, timeouts, plan and memory; no training",
    "plan": "the plan, each worker's program and its simulated timeline; no training",
    "tune": "search the values of a job for the best result within a budget",
    "prepare": "do what the workload wants done once before training",
    "launch": "run a torchrun script, unmodified, on Ray",
    "report": "write the report of a run folder as one HTML page",
    "status": "ask a running job how it is",
    "drain": "let a running job finish its step, checkpoint and end",
    "drill": "disturb a job on purpose and compare its bits with the undisturbed run's",
    "inject": "cause a fault in a running job that allows drills",
    "export": "write a checkpoint as Hugging Face safetensors",
    "doctor": "what this machine has and lacks",
}
"""Every command with its line in the help; command ``x`` is the module ``runtime/cli/x.py``."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""

BROKEN_PIPE = 141
"""Exit code when the reader of our output is gone (128 + SIGPIPE)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line ``argv`` (default: this process's) and returns its exit code.

    0: done. 1: it failed. 2: a mistake of the user, told in one message on stderr.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # As `python -m` does: a job may name a workload in the folder that we are called in.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except UserError as error:
        print(f"ithaca: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("ithaca: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"ithaca {ithaca.__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        known = ", ".join(COMMANDS)
        raise UserError(
            f"there is no command {name!r}{meant}\nCommands: {known}. See ithaca --help."
        )
    parser = argparse.ArgumentParser(prog="ithaca", allow_abbrev=False)
    commands: Commands = parser.add_subparsers(dest="command", required=True)
    importlib.import_module(f"ithaca.runtime.cli.{name}").register(commands)
    arguments, rest = parser.parse_known_args(words)
    # argparse takes key=value words behind an option for none of its own.
    if rest and (not hasattr(arguments, "overrides") or any(w.startswith("-") for w in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return int(arguments.run(arguments))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ithaca COMMAND ...",
            "",
            "Trains PyTorch models on a Ray cluster through lost machines, to the same bits.",
            "",
            *lines,
            "",
            "ithaca COMMAND --help tells more; ithaca --version tells the version.",
        ]
    )
