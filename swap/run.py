"""Runs a script that uses the Trainer of Hugging Face, unmodified, under a memory budget.

python -m ithaca.swap.run --budget 6GiB --folder scratch --limit 40GiB train.py --epochs 3

Everything behind the script's name is the script's.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError, Unsupported
from ithaca.swap.hugging_face import MemoryCallback


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m ithaca.swap.run",
        description="Run a script with a Hugging Face Trainer, unmodified, under a memory budget.",
    )
    made.add_argument("--budget", required=True, help="bytes of torch's allocator, like 6GiB")
    made.add_argument("--folder", help="where tensors may go; default: nowhere, compute again")
    made.add_argument("--limit", help="bytes that the file in --folder may have, like 40GiB")
    made.add_argument("--host", help="bytes of pinned host memory for a model on a GPU, like 64GiB")
    made.add_argument("script", type=Path)
    made.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Runs the script; 2 if the budget or the model cannot be taken, with one message."""
    given = parser().parse_args(words)
    if not given.script.is_file():
        return _refused(f"there is no script {str(given.script)!r}")
    try:
        trainer = importlib.import_module("transformers.trainer")
    except ImportError as error:
        return _refused(f"this is for scripts that use transformers, and there is none: {error}")
    callback = MemoryCallback(given.budget, folder=given.folder, limit=given.limit, host=given.host)
    allocator.install()  # before the model is made, so that all of it is counted
    trainer.DEFAULT_CALLBACKS.append(callback)
    sys.argv = [str(given.script), *given.arguments]
    sys.path.insert(0, str(given.script.resolve().parent))
    try:
        runpy.run_path(str(given.script), run_name="__main__")
    except (BudgetError, Unsupported) as error:
        return _refused(str(error))
    except BaseException as error:
        try:
            callback.close(error)
        except BudgetError as refused:
            return _refused(str(refused))
        raise
    finally:
        callback.close()
        trainer.DEFAULT_CALLBACKS.remove(callback)
    try:
        sys.stderr.write(f"{callback.report()}\n")
    except RuntimeError as error:
        return _refused(f"{given.script}: {error}; its Trainer has to be called with train()")
    return 0


def _refused(message: str) -> int:
    sys.stderr.write(f"ithaca.swap.run: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
