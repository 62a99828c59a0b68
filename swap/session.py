"""Three lines that make a training loop fit a budget of bytes.

with MemorySession(model, budget="6GiB", folder="scratch", limit="40GiB") as memory:
    for batch in data:
        ...                      # forward, backward, optimizer: as before
        memory.step()
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ithaca.swap import allocator
from ithaca.swap.blocks import BlockRun, Blocks
from ithaca.swap.borders import Borders
from ithaca.swap.device import allocated_bytes, allocator_for, device_of, host_bytes
from ithaca.swap.errors import BudgetError, Unsupported
from ithaca.swap.estimate import LEAVES_BYTES, Estimate, Shapes, estimate, shapes_of
from ithaca.swap.norms import Norms
from ithaca.swap.planning import Planning
from ithaca.swap.report import Report
from ithaca.swap.retry import Attempt
from ithaca.swap.signature import signature
from ithaca.swap.size import parse_bytes, show_bytes
from ithaca.swap.states import States, bytes_of
from ithaca.swap.support import check_supported
from ithaca.swap.trace import Trace

Result = TypeVar("Result")
# Storages below a share of the budget, within these bounds, are not worth a copy.
SMALLEST_SHARE, SMALLEST, LARGEST_SMALL = 16384, 1024, 65536
# To begin one on a GPU takes as long as a quarter of a mebibyte, and it has more to move.
LARGEST_SMALL_ON_GPU = 1 << 20
# An operator has about so many tensors of the size of the largest.
OPERANDS = 3
# Under a limit of the system, what stays free of it for each thread: the buffers of the math
# library, which computes other bits if it does not get them.
RESERVE_BYTES = 4 << 20


class MemorySession:
    """Observes, plans and executes keep, swap and recompute under a byte budget.

    Everything that torch's allocator of the CPU hands out counts: parameters, gradients,
    optimizer state, activations, workspaces. While the session is open no allocation takes the
    count above the budget; one that cannot fit, whatever is moved away, raises
    :class:`~ithaca.swap.errors.BudgetError` with the number of bytes that would do. No bit of any
    gradient or parameter differs from training without it.

    Args:
        model: not changed; hooks stay on it while the session is open.
        budget: bytes, or a text like ``6GiB``.
        folder: where tensors may go; without one, nothing leaves memory. A file without a name
            is made there, which is gone when the session ends, however it ends.
        limit: bytes that this file may have; needed with ``folder``.
        host: bytes of pinned host memory that tensors of a model on a GPU may go to, before the
            folder; half of what the machine has, if nothing is given.
        threads: that read and write the file.
        detail_every: every so many steps one is observed in detail, to correct the plan.
        recompute: whether blocks may be computed again instead of being kept.
        agree: makes ranks use the same budget: gets ours in bytes, returns the smallest.

    Raises:
        ValueError: a size that is none, a folder that is none, settings that do not go together.
        Unsupported: a model for which no promise can be made; the message says why.
        BudgetError: parameters and buffers alone are above the budget.
    """

    def __init__(
        self,
        model: nn.Module,
        budget: int | str,
        *,
        folder: str | Path | None = None,
        limit: int | str | None = None,
        host: int | str | None = None,
        threads: int = 2,
        detail_every: int = 64,
        recompute: bool = True,
        agree: Callable[[int], int] | None = None,
    ) -> None:
        check_supported(model)
        self.model = model
        self.budget_bytes = parse_bytes(budget)
        if agree is not None:
            self.budget_bytes = agree(self.budget_bytes)
        self._folder, self._limit = _disk(folder, limit)
        self.device = device_of(model)
        self._host = host_bytes(host, self.device)
        self._away = self._folder is not None or self._host > 0  # is there anywhere to go
        if threads < 1 or detail_every < 1:
            raise ValueError(
                f"threads={threads} and detail_every={detail_every}: both are at least 1"
            )
        self._threads, self._detail_every, self._recompute = threads, detail_every, recompute
        self._steps = 0
        self._detailed = self._estimating = False
        self._open = False
        self._shapes: Shapes | None = None
        self._report: Report | None = None
        self.retries = 0

    # --- the three lines ---

    def __enter__(self) -> Self:
        if self._open:
            raise RuntimeError("this memory session is open already")
        ops = allocator.operators()
        native = importlib.import_module("ithaca._C")
        allocator.install()
        self._count_model()
        needed = bytes_of([*self.model.parameters(), *self.model.buffers()])
        gradients = bytes_of(parameter.grad for parameter in self.model.parameters())
        self._others = max(0, allocated_bytes(self.device) - needed - gradients)
        if needed > self.budget_bytes:
            raise BudgetError(
                f"the model's parameters and buffers alone are {show_bytes(needed)}; the budget "
                f"of {show_bytes(self.budget_bytes)} has to be above {needed} bytes",
                needed,
                self.budget_bytes,
            )
        most = LARGEST_SMALL if self.device.type == "cpu" else LARGEST_SMALL_ON_GPU
        smallest = min(max(self.budget_bytes // SMALLEST_SHARE, SMALLEST), most)
        around = ExitStack()
        around.enter_context(allocator_for(self.device, self.budget_bytes))
        with around:  # until the session is open
            ops.memory_open(
                self.device,
                self.budget_bytes,
                smallest,
                self._host,
                str(self._folder or ""),
                self._limit,
                self._threads,
            )
            self._around = around.pop_all()
        self._open = True
        try:
            self._opened = ExitStack()
            ops.memory_reserve(RESERVE_BYTES * torch.get_num_threads())
            ops.memory_passive_mark(self.budget_bytes // 2)
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                ops.memory_protect(tensor)
            self._borders = Borders(self.model, self._root_begins)
            self._states = States(self.model, self._optimizer_begins, self._away)
            self._planning = Planning(
                tuple(self._borders.names),
                self.budget_bytes,
                self._persistent_bytes,
                lambda: self._blocks.inputs,
                self._away,
                self._recompute,
            )
            self._blocks = Blocks(self.model, lambda: max(0, self._planning.slot), self._recomputes)
            for part in (self._planning, self._borders, self._states, self._blocks):
                self._opened.callback(part.close)
            if self._recompute:
                self._opened.callback(Norms(self.model).close)
            self._opened.enter_context(saved_tensors_hooks(native.pack, native.unpack))
            self._opened.callback(self._blocks.leave)
            ops.memory_observe(True)
            ops.memory_begin(False)
        except BaseException:
            self._close(restore=False)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._open:
            return
        refused = None
        try:
            if isinstance(error, torch.OutOfMemoryError) and not isinstance(error, BudgetError):
                refused = self._refusal(error)
        finally:
            self._close(restore=error is None)
        if refused is not None and refused is not error:
            raise refused from error

    def step(self, later_bytes: int = 0) -> None:
        """Ends a step: behind the optimizer, or wherever a repetition of the loop ends.

        ``later_bytes``: for a runtime whose first step holds less than those that follow, by so
        much at most; plans that are made from this step leave room for it.
        """
        self._check_open()
        self._states.leave()
        self._steps += 1
        wanted = self._planning.end_step(later_bytes)
        self._blocks.begin_step()
        self._detailed = wanted or self._steps % self._detail_every == 0
        allocator.operators().memory_begin(self._detailed)

    @contextmanager
    def micro_batch(self) -> Iterator[None]:
        """The forward of the next micro-batch, for a runtime that calls parts of the model itself.

        All micro-batches count as calls of one kind, so that they are known by their order in the
        step and by the modules that run, whatever the arguments are.
        """
        self._check_open()
        native = importlib.import_module("ithaca._C")
        self._states.leave()
        self._planning.begin(signature(self.model, (), {}), self._detailed)
        native.enter(0)
        try:
            yield
        finally:
            native.leave()

    # --- more ---

    def run(self, step: Callable[[], Result], attempts: int = 3) -> Result:
        """Calls ``step``, a whole step, and again when it ran out of memory; then ends the step.

        Before another attempt, gradients, buffers and random state are put back as they were. It
        is not tried again once the optimizer has begun to change parameters.

        Raises:
            BudgetError: no attempt fits.
            RuntimeError: it added to gradients from before: call ``zero_grad()`` in the step first.
        """
        self._check_open()
        attempt = Attempt(self.model)
        for left in reversed(range(attempts)):
            try:
                self._optimizer_began = False
                result = step()
            except torch.OutOfMemoryError as error:
                if not left or self._optimizer_began or not self._make_room(error):
                    refused = self._refusal(error)
                    raise refused from (None if refused is error else error)
                self.retries += 1
                attempt.put_back()
            else:
                self.step()
                return result
        raise ValueError(f"attempts={attempts}: at least 1")

    def estimate(self, *args: Any, **kwargs: Any) -> Estimate:  # noqa: ANN401
        """What a step with such arguments of the model would need; nothing is trained or changed.

        Arguments are as for the model's forward. Computes with shapes alone.
        """
        self._estimating = True
        try:
            return estimate(self.model, shapes_of(args, kwargs))
        finally:
            self._estimating = False

    def report(self) -> Report:
        """What was used, moved and decided so far; also after the end."""
        if self._open:
            self._report = Report.of(self.budget_bytes, self._steps, self.retries, self._planning)
        if self._report is None:
            raise RuntimeError("the memory session has not been opened yet: use it in a with")
        return self._report

    def traces(self) -> tuple[Trace, ...]:
        """What was observed of each way in which the model was called, as far as it is known."""
        return self._planning.seen()

    # --- inside ---

    def _recomputes(self, run: BlockRun) -> bool:
        return self._recompute and not self._estimating and self._planning.recomputes(run)

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("the memory session is not open: use it in a with statement")

    def _count_model(self) -> None:
        ops = allocator.operators()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if tensor.layout is torch.strided:
                ops.memory_adopt(tensor)
        for parameter in self.model.parameters():
            if parameter.grad is not None and parameter.grad.layout is torch.strided:
                ops.memory_adopt(parameter.grad)

    def _persistent_bytes(self) -> tuple[int, int]:
        held = bytes_of([*self.model.parameters(), *self.model.buffers()])
        return held, bytes_of(parameter.grad for parameter in self.model.parameters())

    def _root_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._estimating:
            return
        self._shapes = shapes_of(args, kwargs)
        self._states.leave()
        self._planning.begin(signature(self.model, args, kwargs), self._detailed)

    def _optimizer_begins(self) -> None:
        self._optimizer_began = True
        allocator.operators().memory_optimizer()

    def _make_room(self, error: torch.OutOfMemoryError) -> bool:
        return self._planning.tighten()

    def _refusal(self, error: torch.OutOfMemoryError) -> torch.OutOfMemoryError:
        """With the number that would be needed: by this point, or by any operator of a step.

        The error itself when it was not the budget that refused, but the system.
        """
        needed = allocator.operators().memory_bytes()["refused"]
        if needed == 0:
            return error
        if self._shapes is not None:
            needed = max(needed, self._others + self._smallest(self._shapes))
        return BudgetError(
            f"a budget of {show_bytes(self.budget_bytes)} is too small for this step: at least "
            f"{needed} bytes ({show_bytes(needed)}) are needed. {error}",
            needed,
            self.budget_bytes,
        )

    def _smallest(self, shapes: Shapes) -> int:
        """From shapes alone; for a model that needs values to run, from its requests so far."""
        disk = self._folder is not None and self.device.type == "cpu"
        self._estimating = True
        try:
            return estimate(self.model, shapes).smallest(disk=disk)
        except Unsupported:
            if self.device.type != "cpu":
                return 0
            held = bytes_of([*self.model.parameters(), *self.model.buffers()])
            gradients = bytes_of(part for part in self.model.parameters() if part.requires_grad)
            operator = OPERANDS * allocator.usage().largest
            if disk and operator >= OPERANDS * LEAVES_BYTES:
                return held + gradients + operator
            return Estimate(held, gradients, 0, operator).smallest(disk=False)
        finally:
            self._estimating = False

    def _close(self, restore: bool) -> None:
        """Takes everything away again, in the opposite order; also what was opened only in part."""
        self._open = False
        ops = allocator.operators()
        with ExitStack() as last:
            last.callback(self._around.close)
            last.callback(ops.memory_close, restore)
            last.callback(ops.memory_reserve, 0)
            last.callback(self._opened.close)
            if hasattr(self, "_planning"):
                self._report = Report.of(
                    self.budget_bytes, self._steps, self.retries, self._planning
                )


def _disk(folder: str | Path | None, limit: int | str | None) -> tuple[Path | None, int]:
    if folder is None:
        if limit is not None:
            raise ValueError(f"limit={limit!r} is for a folder, and none is given")
        return None, 0
    if limit is None:
        raise ValueError(
            f"folder={str(folder)!r} needs a limit, like limit='40GiB': the bytes that the disk "
            f"may be filled with"
        )
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"folder={str(folder)!r} is no folder that exists")
    return path, parse_bytes(limit)
