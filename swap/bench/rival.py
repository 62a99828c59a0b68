"""One arm in a process of its own: it trains a step when it is told to, and says what it took.

So arms can take turns step by step, each with its plans, its caches and its allocator as in a
training of its own.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn

from ithaca.swap import allocator
from ithaca.swap.bench.arms import ARMS, Limits
from ithaca.swap.bench.kernels import same_kernels
from ithaca.swap.bench.models import MODELS
from ithaca.swap.cost import cost_table
from ithaca.swap.errors import BudgetError
from ithaca.swap.planning import spendable
from ithaca.swap.session import MemorySession

# A step that takes longer has failed, seconds.
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Setting:
    """What a rival trains: names of a model and an arm, and its limits."""

    model: str
    arm: str
    limits: Limits
    device: str = "cpu"
    threads: int = 2


@dataclass(frozen=True)
class Variation:
    """What is different in a step.

    Args:
        length: of sequences; ``None`` is the model's own.
        dropped: the block that is left out; below 0 none.
        evaluate: a forward without gradients comes first.
        accumulate: micro-batches.
        skip: the optimizer does not step.
    """

    length: int | None = None
    dropped: int = -1
    evaluate: bool = False
    accumulate: int = 1
    skip: bool = False


PLAIN = Variation()


@dataclass(frozen=True)
class Taken:
    """One step of one arm, or why there is none.

    Args:
        seconds: of the step.
        peak_bytes: of the allocator in it.
        fixed_bytes: parameters, optimizer state and gradients, behind it.
        hits, misses: storages found in the plan, and not, in it.
        counters: of the session so far.
        reserved_bytes: by torch's allocator of a GPU, at most, in it.
        refused: the message of an error that ended it.
        needed_bytes: what it said would do; 0 if it did not.
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    fixed_bytes: int = 0
    hits: int = 0
    misses: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    reserved_bytes: int = 0
    refused: str = ""
    needed_bytes: int = 0


class Trainer:
    """Trains in this process."""

    def __init__(self, setting: Setting) -> None:
        allocator.install()
        torch.set_num_threads(setting.threads)
        self.device = torch.device(setting.device)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
            same_kernels()
        self.model = MODELS[setting.model].make(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self._setting, self._case = setting, MODELS[setting.model]
        self._steps, self._opened = 0, ExitStack()
        arm = ARMS[setting.arm](self.model, setting.limits)
        self._around, self.session = self._opened.enter_context(arm)

    def step(self, variation: Variation = PLAIN) -> Taken:
        """The next step."""
        before = self._counters()
        self._reset_peak()
        began = time.perf_counter()
        self.model.dropped = variation.dropped
        if variation.evaluate:
            with torch.no_grad():
                self.model.eval()(self._batch(0, variation))
            self.model.train()
        self.optimizer.zero_grad()
        for part in range(variation.accumulate):
            with self._around():
                loss = self.model(self._batch(part, variation)).float().square().mean()
            loss.backward()
            del loss
        if not variation.skip:
            self.optimizer.step()
        if self.session is not None:
            self.session.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        self._steps += 1
        after = self._counters()
        return Taken(
            seconds,
            self._peak(),
            self._fixed(),
            after.get("hits", 0) - before.get("hits", 0),
            sum(after.get(key, 0) - before.get(key, 0) for key in ("misses", "nearby")),
            after,
            torch.cuda.max_memory_reserved() if self.device.type == "cuda" else 0,
        )

    def digest(self) -> str:
        """Of all parameters."""
        return digest_of(self.model)

    def bound(self, free_s: float) -> float | None:
        """The lower bound of the step time under the budget, in seconds; ``None`` if unknown.

        Args:
            free_s: of a step without memory saving: what all operators together take.
        """
        traces = self.session.traces() if self.session is not None else ()
        if not traces:
            return None
        from ithaca.swap.bound import lower_bound  # needs scipy

        trace = traces[0]
        scale = free_s / (sum(point.seconds for point in trace.points) or free_s)
        points = tuple(replace(point, seconds=point.seconds * scale) for point in trace.points)
        scaled = replace(trace, points=points)
        found = lower_bound(scaled, self._setting.limits.budget_bytes, time_limit_s=20.0)
        return found.step_s if found else None

    def slowdowns(self, budgets: Sequence[int]) -> list[float | None]:
        """By the cost table of what was observed, for sessions with other budgets.

        A step's time over that of one in which nothing moves; ``None`` where there is no plan.
        """
        traces = self.session.traces() if self.session is not None else ()
        if not traces:
            return [None for _ in budgets]
        table = cost_table(traces[0])
        return [table.slowdown(spendable(traces[0], budget)) for budget in budgets]

    def close(self, error: BaseException | None = None) -> None:
        """Ends the arm."""
        self._opened.__exit__(type(error) if error else None, error, None)

    def _batch(self, part: int, variation: Variation) -> Tensor:
        return self._case.batch(self._steps * 16 + part, self.device, variation.length)

    def _counters(self) -> dict[str, int]:
        return self.session.report().counters if isinstance(self.session, MemorySession) else {}

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            allocator.reset_peak()

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return allocator.usage().peak

    def _fixed(self) -> int:
        state = [part for entry in self.optimizer.state.values() for part in entry.values()]
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        held = [*self.model.parameters(), *self.model.buffers(), *state, *gradients]
        return sum(part.nbytes for part in held if isinstance(part, Tensor))


def digest_of(model: nn.Module) -> str:
    """A hash of all parameters."""
    found = hashlib.blake2b(digest_size=16)
    for parameter in model.parameters():
        flat = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        found.update(flat.numpy().tobytes())
    return found.hexdigest()


def serve(setting: Setting, connection: Connection) -> None:
    """The rival's process: answers until it is told to end."""
    trainer: Trainer | None = None
    error: BaseException | None = None
    while True:
        word, argument = connection.recv()
        if word == "end":
            break
        try:
            trainer = trainer or Trainer(setting)
            connection.send(getattr(trainer, word)(argument) if argument else _plain(trainer, word))
        except (torch.OutOfMemoryError, ValueError, ImportError) as caught:
            error = caught
            connection.send(_refused(caught))
    if trainer is None:
        return
    try:
        trainer.close(error if isinstance(error, torch.OutOfMemoryError) else None)
    except BudgetError:
        if error is None:  # else it has been told already
            raise


def _plain(trainer: Trainer, word: str) -> object:
    return getattr(trainer, word)()


def _refused(error: BaseException) -> Taken:
    text = " ".join(str(error).split())
    return Taken(
        refused=f"{type(error).__name__}: {text[:300]}",
        needed_bytes=getattr(error, "needed_bytes", 0),
    )


class Rival:
    """The other end: a process that trains one arm; a context."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(setting, theirs), daemon=True)

    def __enter__(self) -> Rival:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._connection.send(("end", None))
            self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def step(self, variation: Variation = PLAIN) -> Taken:
        """One step, or why it was refused."""
        answer = self._ask("step", variation)
        assert isinstance(answer, Taken)
        return answer

    def digest(self) -> str:
        """Of the parameters now; empty if the arm has failed."""
        answer = self._ask("digest", None)
        return answer if isinstance(answer, str) else ""

    def bound(self, free_s: float) -> float | None:
        """The lower bound for this arm's sequence, in seconds; see :meth:`Trainer.bound`."""
        answer = self._ask("bound", free_s)
        return answer if isinstance(answer, float) else None

    def slowdowns(self, budgets: Sequence[int]) -> list[float | None]:
        """Predicted for other budgets; see :meth:`Trainer.slowdowns`."""
        answer = self._ask("slowdowns", budgets)
        return answer if isinstance(answer, list) else [None for _ in budgets]

    def _ask(self, word: str, argument: object) -> Any:  # noqa: ANN401
        self._connection.send((word, argument))
        if not self._connection.poll(PATIENCE_S):
            raise TimeoutError(f"{self.setting.arm} did not end a step in {PATIENCE_S:g} s")
        return self._connection.recv()


def with_budget(setting: Setting, budget_bytes: int) -> Setting:
    """The same under another budget."""
    return replace(setting, limits=replace(setting.limits, budget_bytes=budget_bytes))
