"""A function in a process of its own that can be killed: slow trials then end on time."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ithaca.runtime.errors import UserError
from ithaca.tuners.space import Config
from ithaca.tuners.trial import Failure

_END_S = 5.0
"""Longest wait for a process that was told to end, before it is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: with a value, or with a failure and its reason."""

    value: float | None
    failure: Failure | None = None
    reason: str = ""

    @staticmethod
    def failed(error: BaseException) -> Ended:
        """The failure that an exception tells of, with its traceback."""
        # torch's is no MemoryError; it is known by its name, so that torch is not needed here.
        memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        failure = Failure.MEMORY if memory else Failure.ERROR
        return Ended(None, failure, "".join(traceback.format_exception(error)))


class Child:
    """Calls ``function(config)`` in another process, which stays warm between calls.

    The process is made with ``forkserver``: it has no threads and no locks of this one. One that
    is killed, or dies by itself, is replaced at the next call.
    """

    def __init__(self, function: Callable[[Config], float]) -> None:
        self._function = function
        self._context = multiprocessing.get_context("forkserver")
        self._process: Any = None
        self._pipe: Any = None
        self._start()

    def run(self, config: Config, limit_s: float | None) -> Ended:
        """The value; a failure if it raises, dies, or takes longer than ``limit_s`` seconds."""
        if self._process is None:
            self._start()
        bound_s = None if limit_s is None or math.isinf(limit_s) else max(limit_s, 0.0)
        try:
            self._pipe.send(config)
            if not self._pipe.poll(bound_s):
                self._kill()
                return Ended(None, Failure.TIME, f"killed after {bound_s:.3g} s")
            answer: Ended = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(_END_S)
            code = self._process.exitcode
            self._kill()
            return Ended(None, Failure.ERROR, f"its process ended with exit code {code}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(_END_S)
            self._kill()

    def _start(self) -> None:
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(self._function, other), daemon=True
        )
        try:
            self._process.start()
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise UserError(
                f"the objective cannot be sent to another process: {error}. Define it at the top "
                "of a module, or leave isolate away."
            ) from error
        other.close()
        self._pipe.recv()  # what it has to import is not a trial's time

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
        self._process = None


def _serve(
    function: Callable[[Config], float], pipe: multiprocessing.connection.Connection
) -> None:
    pipe.send("ready")
    while True:
        try:
            config = pipe.recv()
        except EOFError:
            return
        try:
            answer = Ended(float(function(config)))
        except Exception as error:
            answer = Ended.failed(error)
        pipe.send(answer)
